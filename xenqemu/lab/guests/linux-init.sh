#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The Linux guest's only program: what has this kernel found, and does it work? It tells on its console, in lines
# `xenqemu-guest: NAME=VALUE`, of which the last one begins with `xenqemu-guest: up`. From then on it is a shell there,
# see docs/lab-guests.md. What is to be right stands on the kernel's command line:
#   console=TTY         (the last one) where all this is
#   xenqemu.disks=N     disks (CD drives too) and
#   xenqemu.nics=N      network cards that there shall be; they are waited for, as drivers take their time
#   xenqemu.sha256=HEX  what the whole of each disk gives
#   xenqemu.address=A   the first card's address, with the length of its prefix
# All commands are applets of busybox. Its shell finds them without a PATH, once there is a /proc/self/exe.

/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

console=hvc0 want_disks=0 want_nics=0 want_sha256= want_address=
for word in $(cat /proc/cmdline); do
    case $word in
    console=*) console=${word#*=} console=${console%%,*} ;;
    xenqemu.disks=*) want_disks=${word#*=} ;;
    xenqemu.nics=*) want_nics=${word#*=} ;;
    xenqemu.sha256=*) want_sha256=${word#*=} ;;
    xenqemu.address=*) want_address=${word#*=} ;;
    esac
done

exec 3<>"/dev/$console" </dev/null >&3 2>&1
# Every byte as it comes: no echo, no editing, no signals, no flow control.
stty -F "/dev/$console" raw -echo

say() { echo "xenqemu-guest: $*"; }

while read -r module; do
    insmod "/modules/$module" || say "error=the module $module cannot be loaded"
done </modules/order

# The drivers of a device and of those that it is behind, up to the first that is on a bus of its own.
drivers() {
    found= folder=$(readlink -f "$1")
    while [ "$folder" != /sys/devices ] && [ "$folder" != / ]; do
        [ -e "$folder/driver" ] && found=$found${found:+/}$(basename "$(readlink -f "$folder/driver")")
        folder=${folder%/*}
    done
    echo "${found:-none}"
}

# Drivers find disks (sd, sr, vd, xvd) and cards on their own time. What does not come is what the report is for.
cd /sys/block
tries=0
while
    disks=$(echo [svx][drv]*[a-z0-9])
    nics=$(echo ../class/net/e*)
    set -- $disks
    [ "$1" = '[svx][drv]*[a-z0-9]' ] && set -- && disks=
    present=$#
    set -- $nics
    [ $# = 1 ] && [ ! -e "$1" ] && set -- && nics=
    [ $tries -lt 200 ] && { [ $present -lt "$want_disks" ] || [ $# -lt "$want_nics" ]; }
do
    tries=$((tries + 1))
    usleep 100000
done

read -r uptime _ </proc/uptime
say "kernel=$(uname -r) after $uptime s"
say "xen=$(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor)"
say "cpus=$(nproc)"
for device in /sys/bus/pci/devices/*; do
    [ -e "$device" ] || continue # a PV or PVH guest has no bus
    read -r vendor <"$device/vendor"
    read -r id <"$device/device"
    driver=none
    [ -e "$device/driver" ] && driver=$(basename "$(readlink -f "$device/driver")")
    say "pci=${device##*/0000:} ${vendor#0x}:${id#0x} $driver"
done

right=0 wrong=0
for disk in $disks; do
    read -r sectors <"/sys/block/$disk/size"
    sum=$(sha256sum <"/dev/$disk")
    sum=${sum%% *}
    if [ "$sum" = "$want_sha256" ]; then
        right=$((right + 1)) verdict=right
    else
        wrong=$((wrong + 1)) verdict="wrong sha256=$sum"
    fi
    say "disk=$disk $(drivers "/sys/block/$disk") sectors=$sectors $verdict"
done

first=none
for nic in $nics; do
    nic=${nic##*/}
    driver=$(drivers "/sys/class/net/$nic")
    [ $first = none ] && {
        first=$driver
        ip link set "$nic" up
        [ -n "$want_address" ] && ip address add "$want_address" dev "$nic"
    }
    say "nic=$nic $driver $(cat "/sys/class/net/$nic/address")"
done

read -r uptime _ </proc/uptime
say "up xen=$(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor)" \
    "disks=$right/$((right + wrong)) nic=$first address=${want_address:-none} seconds=$uptime"

# Write to the disk $1 all the while: one numbered sector after another from its middle on, straight to the device, each
# counted once it is there. A guest that was saved tells that it goes on: what it is sent before that may be lost.
keep_writing() {
    head -c 524288 "/dev/$1" >/first
    (
        n=0
        while [ $n -lt 1000 ] && [ ! -e /stop ]; do
            printf '%511d\n' $n | dd of="/dev/$1" bs=512 seek=$((1024 + n)) conv=notrunc oflag=direct &&
                n=$((n + 1)) && echo $n >/written
            usleep 40000
        done
    ) >/dev/null 2>&1 &
    (while sleep 1; do say alive; done) &
    until read -r n 2>/dev/null </written; do usleep 100000; done # not yet, or being written anew
    echo "$n" >/before
    cut -d. -f1 /proc/uptime >>/before
}

# Stop that; whether more was written since it began, all is on the disk $1, and the rest of that as it was.
check_written() {
    touch /stop
    sleep 1
    until read -r written 2>/dev/null </written; do usleep 100000; done
    read -r before </before
    n=0
    while [ $n -lt "$written" ]; do
        printf '%511d\n' $n
        n=$((n + 1))
    done >/wanted
    dd if="/dev/$1" bs=512 skip=1024 count="$written" iflag=direct 2>/dev/null | cmp - /wanted || return
    dd if="/dev/$1" bs=512 count=1024 iflag=direct 2>/dev/null | cmp - /first || return
    say "written=$before, $written" after "$(tail -n 1 /before), $(cut -d. -f1 /proc/uptime)" s
    [ "$written" -gt "$before" ] && [ "$(cut -d. -f1 /proc/uptime)" -ge "$(tail -n 1 /before)" ]
}

# What is answered is `NUMBER COMMAND`. A shell for each, so that none ends this one, not even by an error in its syntax.
# What `xl shutdown` and `xl reboot` ask for is not in the way: the kernel runs /sbin/poweroff and /sbin/reboot.
cd /
while :; do
    IFS= read -r line <&3 || {
        sleep 1
        continue
    }
    line=${line%$'\r'}
    number=${line%% *}
    case $number in
    '' | *[!0-9]*) continue ;;
    esac
    (eval "${line#* }") 3<&-
    say "end $number $?"
done
