#!/usr/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest created under marks, for xenqemu/bench/instructions.py: /run/xenqemu-measured then has dom0's clock at three
# moments, xl's exit code and what xl said. /etc/xenqemu/measured names the folder, the config and the guest.
exec 2>/run/xenqemu-errors
{ read -r folder; read -r config; read -r name; } </etc/xenqemu/measured
mkdir -p "$folder"
cd "$folder"
# The first that asks a new kernel for random bytes waits until it has collected some, for most of a second in which it
# does nothing else (try_to_generate_entropy() in its drivers/char/random.c): that would be the device model.
head -c 1 /dev/random >/dev/null
# What starts in the background with dom0 has come to an end, and a mark costs what the next one will cost.
sleep 5
/usr/lib/xenqemu/mark
/usr/lib/xenqemu/mark
/usr/lib/xenqemu/mark
started=$EPOCHREALTIME
xl create -p "$config" >/run/xenqemu-said 2>&1
code=$?
ready=$EPOCHREALTIME
/usr/lib/xenqemu/mark
xl unpause "$name"
running=$EPOCHREALTIME
/usr/lib/xenqemu/mark
{ echo "$code $started $ready $running"; cat /run/xenqemu-said; } >/run/xenqemu-measured
