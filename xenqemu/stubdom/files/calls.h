// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the stub domain's own programs have instead of a C library: the calls of Linux on x86-64, and the start of main().

#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_OPEN 2
#define SYS_CLOSE 3
#define SYS_POLL 7
#define SYS_IOCTL 16
#define SYS_PAUSE 35
#define SYS_SOCKET 41
#define SYS_CONNECT 42
#define SYS_ACCEPT 43
#define SYS_SENDMSG 46
#define SYS_BIND 49
#define SYS_LISTEN 50
#define SYS_EXIT 60
#define SYS_SCHEDULER 144
#define READ_ONLY 0
#define WRITE_ONLY 1
#define READ_WRITE 2
#define UNIX_SOCKET 1
#define STREAM 1

struct address {
    unsigned short family;
    char path[108];
};

static inline long call(long number, long one, long two, long three)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(one), "S"(two), "d"(three)
                     : "rcx", "r11", "memory");
    return result;
}

static inline int write_all(int file, const char *data, long size)
{
    while (size > 0) {
        long written = call(SYS_WRITE, file, (long)data, size);

        if (written <= 0)
            return 0;
        data += written;
        size -= written;
    }
    return 1;
}

#define GET_MODE 0x5401
#define SET_MODE 0x5402

// struct termios of include/uapi/asm-generic/termbits.h.
struct mode {
    unsigned int input;
    unsigned int output;
    unsigned int control;
    unsigned int local;
    unsigned char line;
    unsigned char characters[19];
};

// Have a terminal pass on every byte as it comes; what is no terminal does so already.
static inline long make_raw(int file)
{
    struct mode mode;

    if (call(SYS_IOCTL, file, GET_MODE, (long)&mode) < 0)
        return 0;
    mode.input = mode.output = mode.local = 0;
    mode.characters[5] = 0; // VTIME
    mode.characters[6] = 1; // VMIN
    return call(SYS_IOCTL, file, SET_MODE, (long)&mode);
}

static inline unsigned long length(const char *text)
{
    unsigned long size = 0;

    while (text[size])
        size++;
    return size;
}

static inline char *append(char *end, const char *text)
{
    while (*text)
        *end++ = *text++;
    *end = 0;
    return end;
}

// A text that is looked for in a stream, and how much of it has come.
struct search {
    const char *wanted;
    unsigned long matched;
};

// Whether `one` completes the text.
static inline int found(struct search *search, char one)
{
    search->matched = one == search->wanted[search->matched] ? search->matched + 1 : one == search->wanted[0];
    if (search->wanted[search->matched])
        return 0;
    search->matched = 0;
    return 1;
}

int main(int count, char **words);

__attribute__((used)) static void begin_program(long *stack)
{
    call(SYS_EXIT, main(stack[0], (char **)(stack + 1)), 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin_program\n");
