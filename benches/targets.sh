#!/bin/bash
# Many daemons through one exporter: benches/targets.sh
#
# TARGETS fake libvirtds (50) of DOMAINS guests (40), each a program of its own, behind one exporter. Four rounds of SECONDS_A_ROUND seconds (60) in which every
# target is probed each INTERVAL seconds (15), spread over it: one target alone; all of them; 10 of them frozen; 10 more restarting
# all the time. Prints a line for each: the times of the probes of targets that are well, and what the exporter holds.
# EXPORTER and FAKE name other builds.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
targets=${TARGETS:-50} domains=${DOMAINS:-40} interval=${INTERVAL:-15} seconds=${SECONDS_A_ROUND:-60}
release=$here/../target/release
exporter=$(realpath "${EXPORTER:-$release/domstats-exporter}") fake=$(realpath "${FAKE:-$release/fake-libvirtd}")
die() { printf 'targets: %s\n' "$*" >&2; exit 1; }
for program in "$exporter" "$fake"; do [ -x "$program" ] || die "$program is missing; cargo build --release makes it"; done
command -v python3 >/dev/null || die "install python3"

dir=$(mktemp -d "${TMPDIR:-/tmp}/targets.XXXXXX")
cleanup() {
  trap - EXIT
  trap '' INT TERM HUP
  local started
  mapfile -t started < <(jobs -p)
  kill -CONT "${started[@]}" 2>/dev/null || true
  kill "${started[@]}" 2>/dev/null || true
  wait "${started[@]}" 2>/dev/null || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "domains: [{name: 'vm-{}', count: $domains, template: medium}]" >"$dir/scenario.yaml"
{
  echo 'libvirt: {uri: ""}'
  echo 'web: {listen_addresses: ["127.0.0.1:0"], max_requests: 0}'
  echo 'targets:'
  for number in $(seq "$targets"); do echo "  hv-$number: {uri: 'qemu+unix:///system?socket=$dir/$number.sock'}"; done
} >"$dir/config.yaml"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
for number in $(seq "$targets"); do
  "$fake" --socket "$dir/$number.sock" --scenario "$dir/scenario.yaml" --live >"$dir/$number.log" 2>&1 &
  echo "$!" >"$dir/$number.pid"
done
for number in $(seq "$targets"); do
  for _ in {1..300}; do [ ! -S "$dir/$number.sock" ] || continue 2; sleep 0.1; done
  die "the fake daemon $number does not listen"
done
"$exporter" --config.file "$dir/config.yaml" --web.listen-address "127.0.0.1:$port" 2>"$dir/exporter.log" &
pid=$!
python3 "$here/support/targets.py" "$dir" "$port" "$pid" "$targets" "$domains" "$interval" "$seconds" "$fake"
