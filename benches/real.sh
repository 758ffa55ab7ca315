#!/bin/bash
# One scrape of N real guests beside `virsh domstats --nowait` on the same guests, in turn, and pushes to real receivers:
# benches/real.sh [N]
#
# The guests are QEMUs of 32 MiB with four vCPUs and a disk, paused before their first instruction: what is measured is
# libvirt's work and ours, not theirs. Then one of them is frozen, then the daemon. Needs root and some 45 MB of memory a guest. EXPORTER names another build.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
count=${1:-50}
exporter=${EXPORTER:-$here/../target/release/domstats-exporter}
dir=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
server=
others=()
cleanup() {
  kill $server "${others[@]}" 2>/dev/null || true
  "$here/../tests/lab/libvirtd.sh" stop "$dir" || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT

LAB_OWNER=$$ "$here/../tests/lab/libvirtd.sh" start "$dir" >/dev/null
uri=$(cat "$dir/uri") read_only=$(cat "$dir/uri-ro")
kind=qemu
! virsh -c "$uri" domcapabilities --virttype kvm --arch x86_64 >/dev/null 2>&1 || kind=kvm
for number in $(seq "$count"); do
  truncate -s 8M "$dir/disks/$number"; chmod a+rw "$dir/disks/$number"
  cat >"$dir/guest.xml" <<X
<domain type='$kind'><name>bench-$$-$number</name><memory unit='MiB'>32</memory><vcpu>4</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><controller type='usb' model='none'/><memballoon model='virtio'/>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$dir/disks/$number'/><target dev='vda' bus='virtio'/></disk>
  </devices></domain>
X
  virsh -q -c "$uri" create "$dir/guest.xml" --paused >/dev/null
done

groups=state,cpu_total,balloon,vcpu,interface,block,perf,iothread,memory,dirtyrate,vm,vcpu_kvm
"$exporter" serve --libvirt.uri "$read_only" --web.listen-address 127.0.0.1:9399 --collection.groups "$groups" 2>"$dir/log" &
server=$!
until curl -sf -o "$dir/metrics" http://127.0.0.1:9399/metrics && grep -q '^libvirt_up 1' "$dir/metrics"; do sleep 0.2; done
values=$(virsh -q -c "$read_only" domstats --nowait | grep -c =)
echo "$count guests ($kind), $values values; $(grep -c '^libvirt_domain_' "$dir/metrics") samples of domains"

# The same pushed to the receivers of tests/otlp_receivers.rs: what the exporter sent, and what the receiver has.
"$here/../tests/lab/otlp-receiver.sh" >"$dir/python" & others=($!)
victoria=$("$here/../tests/lab/fetch.sh" trixie victoria-metrics)/usr/bin/victoria-metrics
"$victoria" -storageDataPath="$dir/victoria" -httpListenAddr=127.0.0.1:9398 -loggerLevel=ERROR -search.latencyOffset=0s & others+=($!)
until grep -q grpc "$dir/python"; do sleep 0.2; done
until curl -sf -o /dev/null http://127.0.0.1:9398/health; do sleep 0.2; done
printf 'web: {listen_addresses: []}\notlp: {interval: 10s}\n' >"$dir/push.yaml"
push() {
  : >"$dir/push.log"
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=$1 OTEL_EXPORTER_OTLP_PROTOCOL=$2 "$exporter" serve --config.file "$dir/push.yaml" \
    --libvirt.uri "$read_only" --collection.groups "$groups" 2>"$dir/push.log" & others+=($!)
  until grep -q 'the receiver takes' "$dir/push.log"; do sleep 0.2; done
  kill "${others[-1]}"; wait "${others[-1]}" || true
  echo "push to $1 over $2: $(grep -o 'points=[0-9]*' "$dir/push.log")"
}
port() { grep -o "\"$1\": [0-9]*" "$dir/python" | cut -d' ' -f2; }
push "http://127.0.0.1:$(port http)/v1/metrics" http/protobuf
push "http://127.0.0.1:$(port grpc)" grpc
python3 -c 'import json, sys
for line in list(sys.stdin)[1:]:
    push = json.loads(line); print("  a request over", push["transport"], "had", len(push["series"]), "points,", push["bytes"], "bytes")' <"$dir/python"
push http://127.0.0.1:9398/opentelemetry/v1/metrics http/protobuf
curl -sf http://127.0.0.1:9398/internal/force_flush
echo "  VictoriaMetrics has $(curl -sf 'http://127.0.0.1:9398/api/v1/query?nocache=1' --data-urlencode 'query=count({__name__=~"libvirt.+"})' | grep -o '"[0-9]*"' | tr -d '"') series"
kill "${others[@]}" 2>/dev/null || true

stamp() { date +%s%N; }
for round in $(seq "${ROUNDS:-15}"); do
  a=$(stamp); virsh -q -c "$read_only" domstats --nowait >/dev/null
  b=$(stamp); curl -sf -o "$dir/metrics" http://127.0.0.1:9399/metrics
  c=$(stamp)
  echo "$round $(((b - a) / 1000)) $(((c - b) / 1000))"
done | awk '{v[NR]=$2; e[NR]=$3; r[NR]=$3/$2}
  function middle(x,  i, j, t) { for (i=1;i<NR;i++) for (j=i+1;j<=NR;j++) if (x[j]<x[i]) {t=x[i];x[i]=x[j];x[j]=t}; return x[int((NR+1)/2)] }
  END {printf "median of %d rounds: virsh %.1f ms, /metrics %.1f ms; ratio %.2f\n", NR, middle(v)/1000, middle(e)/1000, middle(r)}'

# One guest frozen: what the scrape that meets it takes, and what later ones do.
scrape() { curl -sf -o "$dir/metrics" -w '%{time_total}' http://127.0.0.1:9399/metrics; }
complete() { grep -c '^libvirt_domain_stats_complete.* 1$' "$dir/metrics"; }
middle() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
normal=$(for _ in {1..9}; do scrape; echo; done | middle)
qemu=$(pgrep -f "guest=bench-$$-1,")
kill -STOP "$qemu"; first=$(scrape); of_first=$(complete)
later=$(for _ in {1..9}; do scrape; echo; done | middle); of_later=$(complete)
kill -CONT "$qemu"; thawed=$(scrape); of_thawed=$(complete)
echo "normal $normal s; one frozen: first $first s ($of_first complete), later $later s ($of_later); thawed $thawed s ($of_thawed)"

# The daemon frozen: the first answer, and later ones.
kill -STOP "$(cat "$dir/libvirtd.pid")"; first=$(scrape); later=$(for _ in {1..5}; do scrape; echo; done | middle)
kill -CONT "$(cat "$dir/libvirtd.pid")"
echo "daemon frozen: first $first s, later $later s"
awk '/^(VmHWM|VmRSS|Threads)/{print}' "/proc/$server/status" | tr '\n' ' '; echo
