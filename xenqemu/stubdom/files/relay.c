// SPDX-License-Identifier: GPL-2.0-or-later
//
// relay SOCKET MODEL STATE CONSOLE: passes on to the QMP socket MODEL of the device model what comes to SOCKET, one client
// after the other, and back.
//
// When the guest is saved, libxl has the device model write its state to a set of descriptors that is to lead to a console
// (dm_state_save_to_fdset() in libxl_qmp.c), and reads what has arrived in dom0 soon after the answer. The device model
// truncates what it writes to, which no console can be (qemu_dup_flags() in QEMU's util/osdep.c). So the set leads to the
// file STATE, and before that answer is passed on the file is written to CONSOLE. It needs no library.

#include "calls.h"

#define READABLE 1
#define BUFFER 4096
#define ENOUGH_FOR_DOM0 300000000 /* ns, for the last 2 KB, which are still in the console's ring */

struct watched {
    int file;
    short events;
    short happened;
};

struct time {
    long seconds;
    long nanoseconds;
};

static void copy_state(const char *state, const char *console)
{
    static char data[BUFFER];
    struct time pause = {0, ENOUGH_FOR_DOM0};
    int from = call(SYS_OPEN, (long)state, READ_ONLY, 0);
    int to = call(SYS_OPEN, (long)console, WRITE_ONLY, 0);
    long size;

    make_raw(to);
    while ((size = call(SYS_READ, from, (long)data, sizeof(data))) > 0 && write_all(to, data, size))
        ;
    call(SYS_CLOSE, from, 0, 0);
    call(SYS_CLOSE, to, 0, 0);
    call(SYS_PAUSE, (long)&pause, 0, 0);
}

static void serve(int client, int model, const char *state, const char *console)
{
    static char data[BUFFER];
    struct watched watched[] = {{client, READABLE, 0}, {model, READABLE, 0}};
    struct search command = {"xen-save-devices-state", 0}, answer = {"\"return\"", 0};
    int saving = 0;

    while (call(SYS_POLL, (long)watched, 2, -1) > 0) {
        for (int side = 0; side < 2; side++) {
            long size, at;

            if (!watched[side].happened)
                continue;
            size = call(SYS_READ, watched[side].file, (long)data, sizeof(data));
            if (size <= 0)
                return;
            for (at = 0; at < size; at++) {
                if (side == 0) {
                    saving |= found(&command, data[at]);
                } else if (found(&answer, data[at]) && saving) {
                    copy_state(state, console);
                    saving = 0;
                }
            }
            if (!write_all(watched[!side].file, data, size))
                return;
        }
    }
}

int main(int count, char **words)
{
    struct address own = {UNIX_SOCKET, ""}, models = {UNIX_SOCKET, ""};
    int listening, client, model;

    if (count != 5 || length(words[1]) >= sizeof(own.path) || length(words[2]) >= sizeof(models.path))
        return 2;
    append(own.path, words[1]);
    append(models.path, words[2]);
    listening = call(SYS_SOCKET, UNIX_SOCKET, STREAM, 0);
    if (call(SYS_BIND, listening, (long)&own, sizeof(own)) < 0 || call(SYS_LISTEN, listening, 4, 0) < 0)
        return 1;
    while ((client = call(SYS_ACCEPT, listening, 0, 0)) >= 0) {
        model = call(SYS_SOCKET, UNIX_SOCKET, STREAM, 0);
        if (call(SYS_CONNECT, model, (long)&models, sizeof(models)) >= 0)
            serve(client, model, words[3], words[4]);
        call(SYS_CLOSE, model, 0, 0);
        call(SYS_CLOSE, client, 0, 0);
    }
    return 1;
}
