#!/bin/bash
# What each group of statistics costs: series, bytes and time for N real guests, as docs/scaling.md has it: benches/groups.sh [N]
#
# The guests are QEMUs of 32 MiB with four vCPUs, two disks and a tap NIC, paused before their first instruction: libvirt asks
# a paused QEMU as it asks any other. Needs root and some 45 MB of memory a guest. EXPORTER names another build.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
count=${1:-40}
exporter=${EXPORTER:-$here/../target/release/domstats-exporter}
dir=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  "$here/../tests/lab/libvirtd.sh" stop "$dir" || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT

LAB_OWNER=$$ "$here/../tests/lab/libvirtd.sh" start "$dir" >/dev/null
uri=$(cat "$dir/uri") read_only=$(cat "$dir/uri-ro")
kind=qemu
! virsh -c "$uri" domcapabilities --virttype kvm --arch x86_64 >/dev/null 2>&1 || kind=kvm
for number in $(seq "$count"); do
  disks=
  for disk in vda vdb; do
    truncate -s 8M "$dir/disks/$number-$disk"; chmod a+rw "$dir/disks/$number-$disk"
    disks+="<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$dir/disks/$number-$disk'/><target dev='$disk' bus='virtio'/></disk>"
  done
  tap=b$(cat "$dir/token")$number
  echo "${tap:0:15}" >>"$dir/taps"
  cat >"$dir/guest.xml" <<X
<domain type='$kind'><name>bench-$$-$number</name><memory unit='MiB'>32</memory><vcpu>4</vcpu><iothreads>1</iothreads>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><controller type='usb' model='none'/><memballoon model='virtio'/>$disks
    <interface type='ethernet'><target dev='${tap:0:15}'/><model type='virtio'/><rom enabled='no'/></interface>
  </devices></domain>
X
  virsh -q -c "$uri" create "$dir/guest.xml" --paused >/dev/null
done

groups=(state cpu_total balloon vcpu interface block perf iothread memory dirtyrate vm vcpu_kvm)
address=127.0.0.1:9398
"$exporter" serve --libvirt.uri "$read_only" --web.listen-address "$address" --collection.groups "$(IFS=,; echo "${groups[*]}")" 2>"$dir/log" &
server=$!
until curl -sf -o "$dir/metrics" "http://$address/metrics" && grep -q '^libvirt_up 1' "$dir/metrics"; do sleep 0.2; done

# row NAME QUERY: series, bytes of text, bytes gzipped a guest; milliseconds a guest, the median of 15 scrapes
row() {
  local url="http://$address/metrics?$2" series text packed time
  curl -sgf -o "$dir/metrics" "$url"
  series=$(grep -c '^libvirt_domain_' "$dir/metrics")
  text=$(grep '^libvirt_domain_' "$dir/metrics" | wc -c)
  packed=$(curl -sgf -H 'Accept-Encoding: gzip' "$url" | wc -c)
  time=$(for _ in {1..15}; do curl -sgf -o /dev/null -w '%{time_total}\n' "$url"; done | sort -n | sed -n 8p)
  awk -v name="$1" -v n="$count" -v s="$series" -v b="$text" -v z="$packed" -v t="$time" \
    'BEGIN { printf "| %s | %.1f | %d | %d | %.2f |\n", name, s / n, b / n, z / n, 1000 * t / n }'
}
echo "$count guests ($kind), $(nproc) processors, libvirt $(virsh -c "$uri" version --daemon | sed -n 's/^Running against daemon: //p')"
echo "| group | series | bytes | gzipped | ms |"
echo "|---|---|---|---|---|"
for group in "${groups[@]}"; do row "$group" "collect[]=$group"; done
row "all by default" "exclude[]=vcpu_kvm"
row "all" ""
