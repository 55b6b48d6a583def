#!/usr/lib/xenqemu/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Dom0's own start, with what is measured run before its agent: so that nothing from outside comes in between.
/usr/lib/xenqemu/busybox sed 's|^qemu-ga |bash /usr/lib/xenqemu/measured; qemu-ga |' /usr/lib/xenqemu/start >/start
exec /usr/lib/xenqemu/busybox sh /start
