// SPDX-License-Identifier: GPL-2.0-or-later
//
// end-guest DOMID: crashes the domain whose device model this stub domain was. Without one it would hang, at its next
// access to a device, for good; like this the toolstack sees it end and does what on_crash says.
//
// A device model operation, which Xen allows for the target alone: XEN_DMOP_remote_shutdown of xen/include/public/hvm/
// dm_op.h by IOCTL_PRIVCMD_DM_OP of Linux' include/uapi/xen/privcmd.h. It needs no library.

#include "calls.h"

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

int main(int count, char **words)
{
    unsigned int parameters[16] = {REMOTE_SHUTDOWN, 0, SHUTDOWN_CRASH};
    struct buffer buffer = {parameters, sizeof(parameters)};
    struct operation operation = {0, 1, &buffer};
    const char *digit = count > 1 ? words[1] : "";
    long file = call(SYS_OPEN, (long)"/dev/xen/privcmd", READ_WRITE, 0);

    for (; *digit >= '0' && *digit <= '9'; digit++)
        operation.domain = operation.domain * 10 + (*digit - '0');
    return operation.domain == 0 || call(SYS_IOCTL, file, DM_OP_IOCTL, (long)&operation) < 0;
}
