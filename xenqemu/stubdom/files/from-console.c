// SPDX-License-Identifier: GPL-2.0-or-later
//
// from-console CONSOLE: copies what comes on the terminal CONSOLE to the standard output, every byte as it is.
//
// What libxl sends there, the state of a guest's device model, waits already. A terminal of Linux is opened in the mode
// that is for people (hvc_alloc() in drivers/tty/hvc/hvc_console.c: TTY_DRIVER_RESET_TERMIOS), and what was read in it
// before its mode is changed is lost. So nothing else runs in between, which takes a processor of its own class; a stub
// domain has one. It needs no library.

#include "calls.h"

#define ROUND_ROBIN 2
#define OTHER 0

int main(int count, char **words)
{
    static char data[4096];
    int first = 1, none = 0;
    long console, size;

    if (count != 2)
        return 2;
    call(SYS_SCHEDULER, 0, ROUND_ROBIN, (long)&first);
    console = call(SYS_OPEN, (long)words[1], READ_ONLY, 0);
    if (console < 0 || make_raw(console) < 0)
        return 1;
    call(SYS_SCHEDULER, 0, OTHER, (long)&none);
    while ((size = call(SYS_READ, console, (long)data, sizeof(data))) > 0)
        if (!write_all(1, data, size))
            return 1;
    return 0;
}
