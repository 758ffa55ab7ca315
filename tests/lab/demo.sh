#!/bin/bash
# make demo: three real guests on a libvirtd of their own, and the exporter on it. Ctrl-C ends and removes everything.
# DEMO_ONCE=1: prints one whole scrape and ends. EXPORTER=FILE: this program instead of a release build.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(realpath "$0")")
"$here/install.sh" demo

cd "$here/../.."
exporter=${EXPORTER:-}
if [ -z "$exporter" ]; then
  need cargo cargo
  say "Building the exporter (the first time takes some minutes)"
  exporter=$(release/build.sh)
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/demo.XXXXXX")
server=
cleanup() {
  trap - EXIT
  trap '' INT TERM HUP # an impatient second Ctrl-C must leave nothing behind
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  "$here/libvirtd.sh" stop "$dir" || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'cleanup; exit 0' INT # how a demo ends
trap 'cleanup; exit 143' TERM HUP

can_mount || say "Without root, the guests run under a session daemon, without NICs that libvirt counts; as root they have tap devices."
say "Starting a libvirtd and three guests; no libvirt of this machine is touched"
LAB_OWNER=$$ "$here/libvirtd.sh" start "$dir" >/dev/null
mapfile -t guests < <("$here/guests.sh" "$dir" web db old)
[ ${#guests[@]} = 3 ] || die "the guests could not be started"
# The first of them reads its disks four times a second, once its firmware has come that far.
for _ in {1..60}; do
  requests=$(lab_virsh "$dir" domstats --block "${guests[0]}" | sed -n 's/.*block\.1\.rd\.reqs=//p')
  [ "${requests:-0}" -lt 4 ] || break
  sleep 0.5
done

# The default port, or the next free one.
port=9177
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
uri=$(cat "$dir/uri-ro")
"$exporter" serve --libvirt.uri "$uri" --web.listen-address "127.0.0.1:$port" >"$dir/exporter.log" 2>&1 &
server=$!
url=http://127.0.0.1:$port/metrics
for _ in {1..600}; do
  kill -0 "$server" 2>/dev/null || { cat "$dir/exporter.log" >&2; die "the exporter ended by itself"; }
  curl --silent --fail --max-time 60 --output "$dir/metrics" "$url" && grep -q '^libvirt_up 1' "$dir/metrics" && break
  sleep 0.1
done
for guest in "${guests[@]}"; do
  grep -q "domain=\"$guest\"" "$dir/metrics" || { cat "$dir/exporter.log" >&2; die "the scrape lacks the guest $guest"; }
done

if [ -n "${DEMO_ONCE:-}" ]; then
  say "One scrape of ${guests[*]}:"
  cat "$dir/metrics"
  exit 0
fi

excerpt() { # excerpt WHAT REGEX: the samples whose line matches
  printf '\n# %s\n' "$1"
  grep -E "$2" "$dir/metrics" | head -n 6 || true
}
echo "$(grep -c '^[^#]' "$dir/metrics") samples of three guests; some of them:"
excerpt "The connection, and what each guest is doing: web runs, db is paused, old is shut off" '^libvirt_up |^libvirt_domain_state\{.*\} 1$'
excerpt "CPU time, and the time a vCPU had to wait for a processor (steal)" '^libvirt_domain_(cpu_time|vcpu_delay)_seconds_total\{'
excerpt "Disks: rates and latency, as rate(time) / rate(requests)" '^libvirt_domain_block_read_(requests|time_seconds)_total\{'
excerpt "Network, as the guest sees it" '^libvirt_domain_interface_(receive|transmit)_bytes_total\{'
excerpt "Memory: what the guest has, and what its QEMU holds of the host's" '^libvirt_domain_memory_(current|rss)_bytes\{'
cat <<X

  metrics   $url
  look on   curl -s $url
  libvirt   virsh -c '$(cat "$dir/uri")' list --all

Try 'virsh -c ... resume ${guests[1]}' or 'destroy ${guests[0]}' and scrape again. Ctrl-C ends the demo and removes the guests.
X
wait "$server"
