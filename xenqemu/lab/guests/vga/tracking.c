/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A library between a device model and Xen (ld.so --preload): it counts how often the device model asks which pages of
 * video memory have changed (xen_sync_dirty_bitmap() in QEMU's hw/i386/xen/xen-hvm.c), and what Xen answers, and it can
 * answer in Xen's place. The device model itself is as it is shipped.
 *
 * /run/xenqemu-tracking says what to do:
 *   on     pass on what Xen says
 *   off    ENODATA, as a Xen that does not know: the device model then takes all pages for changed
 *   blind  EINVAL: the device model then hears of no change at all
 *
 * /run/xenqemu-tracking.seen has three numbers: how often Xen was asked or would have been, how many pages it said have
 * changed, and how many it was asked about.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MODE "/run/xenqemu-tracking"
#define SEEN MODE ".seen"
#define WIDTH (8 * sizeof(unsigned long))

typedef int track(void *handle, uint16_t domid, uint64_t first, uint32_t count, unsigned long *bitmap);

static unsigned long asked, changed, about;

static void tell(void)
{
    char text[80];
    int length = snprintf(text, sizeof text, "%20lu %20lu %20lu\n", asked, changed, about);
    int file = open(SEEN, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    if (file >= 0) {
        /* In one piece and always of the same length: whoever reads it meanwhile gets old or new numbers. */
        if (pwrite(file, text, length, 0) != length) {
            unlink(SEEN);
        }
        close(file);
    }
}

static char mode(void)
{
    char text[8] = "on";
    int file = open(MODE, O_RDONLY | O_CLOEXEC);

    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 2) {
            strcpy(text, "on");
        }
        close(file);
    }
    return text[0] == 'b' ? 'b' : text[1]; /* on, off, blind */
}

int xendevicemodel_track_dirty_vram(void *handle, uint16_t domid, uint64_t first, uint32_t count,
                                    unsigned long *bitmap)
{
    static track *next;
    char what = mode();
    int result;

    if (!next) {
        next = (track *)dlsym(RTLD_NEXT, "xendevicemodel_track_dirty_vram");
    }
    if (!count) {
        return next(handle, domid, first, count, bitmap);
    }
    asked++;
    about += count;
    if (what != 'n') {
        tell();
        errno = what == 'f' ? ENODATA : EINVAL;
        return -1;
    }
    result = next(handle, domid, first, count, bitmap);
    if (!result) {
        for (uint32_t page = 0; page < count; page++) {
            changed += bitmap[page / WIDTH] >> page % WIDTH & 1;
        }
    }
    int error = errno;
    tell();
    errno = error;
    return result;
}
