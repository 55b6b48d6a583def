/*
 * What somebody could do who has taken over a device model: descriptors that it has open are duplicated
 * (pidfd_getfd(2)) and used.
 *
 *   descriptors list PID             how many of which kind there are, a line for each
 *   descriptors check PID PROGRAM    Xen's depriv-fd-checker, on all that it knows to check
 *   descriptors touch PID DOMID      each way to the domain, and whether it was "taken" or "refused"
 *
 * touch does to the domain: a device model's hypercall that only reads (XEN_DMOP_nr_vcpus in Xen's public/hvm/dm_op.h),
 * a mapping of its first page, an event channel to it, a mapping of the grant that each guest's console has
 * (GNTTAB_RESERVED_CONSOLE in public/grant_table.h), a node in its part of xenstore. And, whichever the domain: a
 * hypercall of any kind (XENVER_version), which the kernel takes from unrestricted handles only.
 */

#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define ENTRIES 1024
#define PAGE 4096

/* Of Linux' uapi xen/privcmd.h, xen/evtchn.h and xen/gntdev.h, which a machine without Xen may lack in part. */
struct hypercall { uint64_t op, arg[5]; };
struct map { unsigned int number; uint16_t domain; uint64_t address; const uint64_t *frames; int *errors; };
struct buffer { void *at; size_t size; };
struct device_op { uint16_t domain, number; const struct buffer *buffers; };
struct grant { uint32_t count, pad; uint64_t index; uint32_t domain, reference; };
#define HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct hypercall))
#define MAP _IOC(_IOC_NONE, 'P', 4, sizeof(struct map))
#define DEVICE_OP _IOC(_IOC_NONE, 'P', 5, sizeof(struct device_op))
#define BIND _IOC(_IOC_NONE, 'E', 1, 2 * sizeof(unsigned int))
#define MAP_GRANT _IOC(_IOC_NONE, 'G', 0, sizeof(struct grant))
#define XENSTORE "/run/xenstored/socket"

struct descriptor { int number, stolen; char target[256], kind[256]; };

static struct descriptor all[ENTRIES];
static int count;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static int by_number(const void *a, const void *b)
{
    return ((const struct descriptor *)a)->number - ((const struct descriptor *)b)->number;
}

/* What it is, without what differs from one start to the next. */
static void name_kind(struct descriptor *one)
{
    struct sockaddr_un peer = { 0 };
    socklen_t length = sizeof(peer);
    int domain = 0, listens = 0;
    socklen_t size = sizeof(int);
    char *end;

    strcpy(one->kind, one->target);
    if (!strncmp(one->target, "/memfd:", 7)) {
        strcpy(one->kind, "memfd");
    } else if (!strncmp(one->target, "pipe:", 5)) {
        strcpy(one->kind, "pipe");
    } else if (!strncmp(one->target, "socket:", 7)) {
        getsockopt(one->stolen, SOL_SOCKET, SO_DOMAIN, &domain, &size);
        getsockopt(one->stolen, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
        if (domain == AF_UNIX) {
            getpeername(one->stolen, (struct sockaddr *)&peer, &length);
        }
        strcpy(one->kind, strstr(peer.sun_path, "xenstored") ? "xenstore"
               : domain == AF_UNIX ? listens ? "unix-listen" : "unix"
                                   : listens ? "tcp-listen" : "tcp");
    } else if (!strncmp(one->target, "/dev/pts/", 9)) {
        strcpy(one->kind, "/dev/pts");
    }
    end = one->kind + strlen(one->kind);
    if (one->target[0] == '/' && fcntl(one->stolen, F_GETFL) >= 0) {
        int flags = fcntl(one->stolen, F_GETFL), mode = flags & O_ACCMODE;

        sprintf(end, " %s%s", mode == O_RDONLY ? "r" : mode == O_WRONLY ? "w" : "rw", flags & O_APPEND ? "a" : "");
    }
}

static void steal(int pid)
{
    int process = syscall(SYS_pidfd_open, pid, 0);
    char path[64];
    struct dirent *entry;
    DIR *folder;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    folder = opendir(path);
    if (process < 0 || !folder) {
        die(path);
    }
    while ((entry = readdir(folder)) && count < ENTRIES) {
        struct descriptor *one = &all[count];
        char link[320];
        ssize_t length;

        if (!isdigit((unsigned char)entry->d_name[0])) {
            continue;
        }
        snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
        length = readlink(link, one->target, sizeof(one->target) - 1);
        one->number = atoi(entry->d_name);
        one->stolen = syscall(SYS_pidfd_getfd, process, one->number, 0);
        if (length < 0 || one->stolen < 0) {
            die(link);
        }
        name_kind(one);
        count++;
    }
    closedir(folder);
    qsort(all, count, sizeof(all[0]), by_number);
}

static int is(const struct descriptor *one, const char *target)
{
    return !strcmp(one->target, target);
}

static int list(void)
{
    for (int i = 0; i < count; i++) {
        int same = 0, first = i;

        for (int j = 0; j < count; j++) {
            if (!strcmp(all[i].kind, all[j].kind)) {
                first = j < first ? j : first;
                same++;
            }
        }
        if (first == i) {
            printf("%d %s\n", same, all[i].kind);
        }
    }
    return 0;
}

/* As fishdescriptor's users do, see depriv-fd-checker.c in Xen's tools/tests/depriv. */
static int check(const char *program)
{
    char *argv[3 * ENTRIES + 2] = { "depriv-fd-checker" };
    int n = 1;

    for (int i = 0; i < count; i++) {
        struct descriptor *one = &all[i];
        int flags = fcntl(one->stolen, F_GETFL);
        char *class = is(one, "/dev/xen/privcmd") ? "privcmd"
                    : is(one, "/dev/xen/evtchn") ? "evtchn"
                    : is(one, "/dev/xen/gntdev") ? "gntdev"
                    : is(one, "/dev/net/tun") ? "tun"
                    : strncmp(one->target, "/var/log/", 9) ? NULL : "appendonly";

        if (!class && is(one, "/dev/null") && (flags & O_ACCMODE) == O_RDONLY) {
            class = "readonly";
        }
        if (!class) {
            continue;
        }
        argv[n++] = class;
        if (asprintf(&argv[n++], "%d", dup(one->stolen)) < 0 || asprintf(&argv[n++], "[%d]", one->number) < 0) {
            die("asprintf");
        }
    }
    execv(program, argv);
    die(program);
    return 2;
}

static int taken, refused;

static void tell(const struct descriptor *one, const char *what, int result)
{
    int no = result < 0 && (errno == EPERM || errno == EACCES || errno == ENOTTY);

    if (result < 0 && !no) {
        printf("%s %d: %s did not work: %s\n", one->kind, one->number, what, strerror(errno));
        return;
    }
    printf("%s %d: %s was %s\n", one->kind, one->number, what, no ? "refused" : "taken");
    no ? refused++ : taken++;
}

static void touch_privcmd(const struct descriptor *one, unsigned int domain)
{
    uint64_t frame = 0;
    uint32_t op[32] = { 20 };
    int error = 0, result;
    struct buffer buffer = { op, sizeof(op) };
    struct device_op device_op = { domain, 1, &buffer };
    struct hypercall version = { 17, { 0 } };
    struct map map = { 1, domain, 0, &frame, &error };
    void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, one->stolen, 0);

    tell(one, "a device model's hypercall", ioctl(one->stolen, DEVICE_OP, &device_op));
    if (at == MAP_FAILED) {
        tell(one, "a mapping", -1);
    } else {
        map.address = (uintptr_t)at;
        result = ioctl(one->stolen, MAP, &map);
        if (!result && error) {
            errno = -error;
            result = -1;
        }
        tell(one, "a mapping", result);
        munmap(at, PAGE);
    }
    tell(one, "a hypercall", ioctl(one->stolen, HYPERCALL, &version));
}

/* To a port that there is not: EINVAL is Xen's answer, to what the kernel let through. An event from one that there is
 * would be news to the device model, which ends then. */
static void touch_evtchn(const struct descriptor *one, unsigned int domain)
{
    struct { unsigned int domain, port; } bind = { domain, UINT32_MAX };
    int result = ioctl(one->stolen, BIND, &bind);

    tell(one, "an event channel", result < 0 && errno == EINVAL ? 0 : result);
}

static void touch_gntdev(const struct descriptor *one, unsigned int domain)
{
    struct grant grant = { 1, 0, 0, domain, 0 };
    int result = ioctl(one->stolen, MAP_GRANT, &grant);

    if (result >= 0 && mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, one->stolen, grant.index) == MAP_FAILED) {
        result = -1;
    }
    tell(one, "a grant", result);
}

/* A message to xenstored, as in public/io/xs_wire.h: the type, a number of ours, no transaction, the length, the body. */
static int send_message(int to, uint32_t type, const char *body, uint32_t length)
{
    uint32_t header[4] = { type, 4711, 0, length };

    return write(to, header, sizeof(header)) == sizeof(header) && write(to, body, length) == length ? 0 : -1;
}

/* Whether the node is there, by a connection of our own: who reads the stolen one's answers is anybody's guess. */
static int node_exists(const char *path)
{
    struct sockaddr_un address = { AF_UNIX, XENSTORE };
    int own = socket(AF_UNIX, SOCK_STREAM, 0);
    uint32_t header[4];

    if (connect(own, (struct sockaddr *)&address, sizeof(address)) || send_message(own, 2, path, strlen(path) + 1) ||
        read(own, header, sizeof(header)) != sizeof(header)) {
        die(XENSTORE);
    }
    close(own);
    return header[0] == 2;
}

static void touch_xenstore(const struct descriptor *one, unsigned int domain)
{
    char path[64];
    int length = sprintf(path, "/local/domain/%u/touched", domain), result;

    result = send_message(one->stolen, 11, path, length + 1);
    for (int i = 0; i < 20 && !result && !node_exists(path); i++) {
        usleep(100000);
    }
    if (!result && !node_exists(path)) {
        errno = EPERM;
        result = -1;
    }
    tell(one, "a node in xenstore", result);
}

static int touch(unsigned int domain)
{
    for (int i = 0; i < count; i++) {
        if (is(&all[i], "/dev/xen/privcmd")) {
            touch_privcmd(&all[i], domain);
        } else if (is(&all[i], "/dev/xen/evtchn")) {
            touch_evtchn(&all[i], domain);
        } else if (is(&all[i], "/dev/xen/gntdev")) {
            touch_gntdev(&all[i], domain);
        } else if (!strcmp(all[i].kind, "xenstore")) {
            touch_xenstore(&all[i], domain);
        }
    }
    printf("of %d ways %d were taken\n", taken + refused, taken);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "descriptors list PID | check PID PROGRAM | touch PID DOMID\n");
        return 2;
    }
    steal(atoi(argv[2]));
    if (!strcmp(argv[1], "check") && argc == 4) {
        return check(argv[3]);
    }
    if (!strcmp(argv[1], "touch") && argc == 4) {
        return touch(atoi(argv[3]));
    }
    return list();
}
