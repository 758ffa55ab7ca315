#!/bin/bash
# How many scrapes have every guest whole while other clients ask the same daemon: benches/contention.sh [GUESTS] [SCRAPES]
#
# Beside nothing, `virsh domstats` in a loop, a second exporter of this build, a peer's exporter, all of these, and commands that
# hold a guest's job for 300 ms. PEER is a command that serves Prometheus' format on 127.0.0.1:9395; without it, those rows are left
# out. INTERVAL (1) is the time between two scrapes in seconds. EXPORTER names another build.
count=${1:-40} scrapes=${2:-15}
here=$(dirname "$(realpath "$0")")
# shellcheck source=benches/support/guests.sh
. "$here/support/guests.sh"

measure() { "$here/support/whole.py" "$1" "$url" "$count" "$scrapes" "${INTERVAL:-1}"; }
stop_others() { kill "${others[@]}" 2>/dev/null || true; wait "${others[@]}" 2>/dev/null || true; others=(); }

domstats() { while :; do virsh -q -c "$uri" domstats >/dev/null; done & others+=($!); }
scraped() { while :; do curl -s -o /dev/null "$1"; done & others+=($!); }
second() {
  "$exporter" serve --libvirt.uri "$read_only" --web.listen-address 127.0.0.1:9398 --collection.groups "$all" 2>"$dir/second.log" & others+=($!)
  until curl -sf -o /dev/null http://127.0.0.1:9398/metrics; do sleep 0.2; done
  scraped http://127.0.0.1:9398/metrics
}
peer() {
  URI=$uri bash -c "exec $PEER" >"$dir/peer.log" 2>&1 & others+=($!)
  until curl -sf -o /dev/null http://127.0.0.1:9395/metrics; do sleep 0.2; done
  scraped http://127.0.0.1:9395/metrics
}
# QEMU opens a FIFO to save memory into it, and waits for its reader: the guest's job is held until then.
holder() {
  mkfifo "$dir/disks/fifo" && chmod a+rw "$dir/disks/fifo"
  while :; do
    (sleep 0.3; timeout 5 cat "$dir/disks/fifo" >/dev/null) &
    virsh -q -c "$uri" qemu-monitor-command "bench-$$-$((RANDOM % count + 1))" --hmp "pmemsave 0 4096 \"$dir/disks/fifo\"" >/dev/null
    wait
  done & others+=($!)
}

measure 'alone'
domstats; measure 'beside virsh domstats'; stop_others
second; measure 'beside a second exporter of this build'; stop_others
if [ -n "${PEER:-}" ]; then
  peer; measure 'beside the peer'; stop_others
  domstats; second; peer; measure 'beside all three'; stop_others
else
  domstats; second; measure 'beside both'; stop_others
fi
holder; measure 'beside commands that hold a job for 300 ms'; stop_others
echo "load $(cut -d' ' -f1 /proc/loadavg)"
