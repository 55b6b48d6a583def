#!/usr/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What dom0 has at this moment, for xenqemu/lab/soak.py: lines NAME=NUMBER (memory in bytes) and NAME:ENTRY.
set -e

# dom0's processes called $1, by number; busybox has no pgrep.
pids() {
    local process name
    for process in /proc/[0-9]*; do
        read -r name 2>/dev/null <"$process/comm" || continue
        [[ $name != "$1" ]] || echo "${process##*/}"
    done
}

# What ends with a domain takes a moment: xl's waiting process, hotplug scripts, the pages of a dying domain.
for ((try = 0; try < 40; try++)); do
    [[ -n $(pids xl) || $(xl list | wc -l) -gt 2 ]] || break
    sleep 0.5
done
sleep 3
# Logs are files in dom0's memory, and no leak; xl keeps the last ten of each guest (libxl_create_logfile()).
find /var/log/xen -type f \( -name 'qemu-dm-*' -o -name 'xl-*' -o -name '*.text' \) -exec rm -f {} +
: >/var/log/xen/xen-hotplug.log
sync
echo 3 >/proc/sys/vm/drop_caches

for process in /proc/[0-9]*; do
    [[ -e $process/exe && ${process##*/} != $$ ]] || continue
    read -r name <"$process/comm" || continue
    case $name in
    bash | sleep | find) [[ $(tr '\0' ' ' <"$process/cmdline") != *xenqemu-figures* ]] || continue ;;
    esac
    echo "processes:$name"
done
for daemon in xenstored xenconsoled qemu-ga; do
    pid=$(pids "$daemon")
    set -- "/proc/${pid%%[^0-9]*}/fd"/*
    echo "descriptors of $daemon=$#"
done
read -r files _ </proc/sys/fs/file-nr
echo "dom0 open files=$files"
while read -r name size _; do
    case $name in
    MemAvailable:) echo "dom0 memory available=$((size * 1024))" ;;
    Slab:) echo "dom0 slab=$((size * 1024))" ;;
    esac
done </proc/meminfo
echo "Xen free memory=$(($(xl info free_memory) * 1024 * 1024))"
xl list | while read -r name _; do [[ $name == Name ]] || echo "domains:$name"; done
xenstore-ls -f | while IFS= read -r line; do echo "xenstore nodes:${line%% = *}"; done
for interface in /sys/class/net/*; do echo "network interfaces:${interface##*/}"; done
echo "loop devices:"
losetup -a | while read -r device _; do echo "loop devices:${device%:}"; done
find /run /var/lib/xen /dev/shm /tmp /root ! -type d ! -path '/run/xenqemu-*' | while read -r file; do echo "files:$file"; done
