#!/bin/bash
# Whether memory stays flat: the exporter's resident memory over SCRAPES scrapes (10,000) of a fake daemon of N domains:
# benches/flat.sh [N]
#
# EXPORTER and DAEMON name other builds.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
count=${1:-100} scrapes=${SCRAPES:-10000}
dir=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
running=()
cleanup() { kill "${running[@]}" 2>/dev/null || true; rm -rf --one-file-system "$dir"; }
trap cleanup EXIT

"${DAEMON:-$here/../target/release/fake-libvirtd}" --socket "$dir/socket" --domains "$count" --template medium --live >/dev/null & running+=($!)
until [ -S "$dir/socket" ]; do sleep 0.1; done
groups=state,cpu_total,balloon,vcpu,interface,block,perf,iothread,memory,dirtyrate,vm,vcpu_kvm
url=http://127.0.0.1:9395/metrics
"${EXPORTER:-$here/../target/release/domstats-exporter}" serve --libvirt.uri "qemu+unix:///system?socket=$dir/socket" \
  --web.listen-address 127.0.0.1:9395 --collection.groups "$groups" 2>"$dir/log" & running+=($!)
until curl -sf -o "$dir/metrics" "$url" && grep -q '^libvirt_up 1' "$dir/metrics"; do sleep 0.2; done
echo "$count domains, $(grep -c '^libvirt_domain_' "$dir/metrics") series"
status() { awk -v field="$1:" '$1 == field { printf "%.1f", $2 / 1024 }' "/proc/${running[1]}/status"; }
echo "| scrapes | RSS MiB | peak MiB | threads | files |"
echo "|---|---|---|---|---|"
done=0
for until in $((scrapes / 100)) $((scrapes / 10)) $((scrapes / 2)) "$scrapes"; do
  # A fragment makes as many URLs of one, over one connection, and stays in the client.
  curl -sf "$url#[1-$((until - done))]" >/dev/null
  done=$until
  echo "| $done | $(status VmRSS) | $(status VmHWM) | $(awk '/^Threads/ { print $2 }' "/proc/${running[1]}/status") | $(find "/proc/${running[1]}/fd" -type l | wc -l) |"
done
