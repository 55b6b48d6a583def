// SPDX-License-Identifier: GPL-2.0-or-later
//
// add-disk SOCKET DEVICE NAME: opens DEVICE for reading and hands it to the device model whose QMP is at SOCKET, as a set
// of descriptors that is known by NAME (`add-fd` of qapi/misc.json in QEMU). It needs no library.

#include "calls.h"

#define LEVEL_SOCKET 1
#define RIGHTS 1

struct piece {
    const void *start;
    unsigned long size;
};

struct control {
    unsigned long size;
    int level;
    int type;
    int file;
    int padding;
};

struct message {
    void *name;
    unsigned int name_size;
    struct piece *pieces;
    unsigned long count;
    struct control *control;
    unsigned long control_size;
    int flags;
};

// Read up to a line's end; whether there is a `"return"` in it.
static int answered(int file)
{
    struct search search = {"\"return\"", 0};
    int returned = 0;
    char one;

    while (call(SYS_READ, file, (long)&one, 1) == 1 && one != '\n')
        returned |= found(&search, one);
    return returned;
}

static int hand_over(int file, int disk, const char *name)
{
    char text[256], *end = text;
    struct piece piece;
    struct control control = {sizeof(control) - sizeof(int), LEVEL_SOCKET, RIGHTS, disk, 0};
    struct message message = {0, 0, &piece, 1, &control, sizeof(control), 0};

    end = append(end, "{\"execute\": \"add-fd\", \"arguments\": {\"opaque\": \"");
    end = append(end, name);
    end = append(end, "\"}}\n");
    piece.start = text;
    piece.size = end - text;
    return call(SYS_SENDMSG, file, (long)&message, 0) > 0 && answered(file);
}

int main(int count, char **words)
{
    static const char begin[] = "{\"execute\": \"qmp_capabilities\"}\n";
    struct address address = {UNIX_SOCKET, ""};
    int file, disk;

    if (count != 4 || length(words[1]) >= sizeof(address.path) || length(words[3]) > 64)
        return 2;
    append(address.path, words[1]);
    disk = call(SYS_OPEN, (long)words[2], READ_ONLY, 0);
    file = call(SYS_SOCKET, UNIX_SOCKET, STREAM, 0);
    if (disk < 0 || call(SYS_CONNECT, file, (long)&address, sizeof(address)) < 0)
        return 1;
    answered(file); // the greeting
    if (call(SYS_WRITE, file, (long)begin, sizeof(begin) - 1) < 0 || !answered(file))
        return 1;
    return !hand_over(file, disk, words[3]);
}
