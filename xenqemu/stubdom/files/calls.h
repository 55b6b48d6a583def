// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the stub domain's own programs have instead of a C library: the calls of Linux on x86-64, and the start of main().

#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_OPEN 2
#define SYS_IOCTL 16
#define SYS_SOCKET 41
#define SYS_CONNECT 42
#define SYS_SENDMSG 46
#define SYS_EXIT 60
#define READ_ONLY 0
#define READ_WRITE 2

static inline long call(long number, long one, long two, long three)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(one), "S"(two), "d"(three)
                     : "rcx", "r11", "memory");
    return result;
}

int main(int count, char **words);

__attribute__((used)) static void begin_program(long *stack)
{
    call(SYS_EXIT, main(stack[0], (char **)(stack + 1)), 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin_program\n");
