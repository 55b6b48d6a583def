// SPDX-License-Identifier: GPL-2.0-or-later
//
// end-guest DOMID: crashes the domain whose device model this stub domain was. Without one it would hang, at its next
// access to a device, for good; like this the toolstack sees it end and does what on_crash says.
//
// A device model operation, which Xen allows for the target alone: XEN_DMOP_remote_shutdown of xen/include/public/hvm/
// dm_op.h by IOCTL_PRIVCMD_DM_OP of Linux' include/uapi/xen/privcmd.h. It needs no library, so that it is 1 KB.

#define SYS_OPEN 2
#define SYS_IOCTL 16
#define SYS_EXIT 60
#define READ_WRITE 2
#define DM_OP_IOCTL 0x00105005 /* _IOC(_IOC_NONE, 'P', 5, sizeof(struct operation)) */
#define REMOTE_SHUTDOWN 16
#define SHUTDOWN_CRASH 3

struct buffer {
    void *address;
    unsigned long size;
};

struct operation {
    unsigned short domain;
    unsigned short buffers;
    struct buffer *first;
};

static long call(long number, long one, long two, long three)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(one), "S"(two), "d"(three)
                     : "rcx", "r11", "memory");
    return result;
}

__attribute__((used)) static void begin(long *stack)
{
    long count = stack[0];
    const char *digit = count > 1 ? (const char *)stack[2] : "";
    unsigned int words[16] = {REMOTE_SHUTDOWN, 0, SHUTDOWN_CRASH};
    struct buffer buffer = {words, sizeof(words)};
    struct operation operation = {0, 1, &buffer};
    long file = call(SYS_OPEN, (long)"/dev/xen/privcmd", READ_WRITE, 0);

    for (; *digit >= '0' && *digit <= '9'; digit++)
        operation.domain = operation.domain * 10 + (*digit - '0');
    call(SYS_EXIT, operation.domain == 0 || call(SYS_IOCTL, file, DM_OP_IOCTL, (long)&operation) < 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
