# shellcheck shell=bash
# The real guests that real.sh and groups.sh measure, and the exporter on them. Sourced, not run: gives `dir` (a folder, gone at the
# end together with all that runs in it), `uri`, `read_only`, `count`, `kind`, `server` (the exporter's process) and `url`.
#
# The guests are QEMUs of 32 MiB with four vCPUs, two disks, a tap NIC and an I/O thread, paused before their first instruction: what
# is measured is libvirt's work and ours, not theirs, and libvirt asks a paused QEMU as it asks any other.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../tests/lab/lib.sh"
lab=$(realpath "$(dirname "$0")/../tests/lab")
# What the sourcing script adds to libvirt's groups of statistics.
more=("${more[@]}")
# shellcheck disable=SC2034 # the sourcing script uses these
groups=(state cpu_total balloon vcpu interface block perf iothread memory dirtyrate vm vcpu_kvm "${more[@]}") url=http://127.0.0.1:9399/metrics
exporter=${EXPORTER:-$lab/../../target/release/domstats-exporter}
[ "$EUID" = 0 ] || die "$0 needs root"
for pair in virsh:libvirt-clients libvirtd:libvirt-daemon qemu-system-x86_64:qemu-system-x86 curl:curl python3:python3; do need "${pair%:*}" "${pair#*:}"; done
dir=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
server='' others=()
cleanup() {
  kill $server "${others[@]}" 2>/dev/null || true
  "$lab/libvirtd.sh" stop "$dir" || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT

LAB_OWNER=$$ "$lab/libvirtd.sh" start "$dir" >/dev/null
uri=$(cat "$dir/uri") read_only=$(cat "$dir/uri-ro")
kind=qemu
! virsh -c "$uri" domcapabilities --virttype kvm --arch x86_64 >/dev/null 2>&1 || kind=kvm
# Their firmware: 64 KiB with two instructions where the CPU begins, 16 bytes before the end: interrupts off, halt.
{ head -c 65520 /dev/zero; printf '\xfa\xf4'; head -c 14 /dev/zero; } >"$dir/halt.rom"
chmod a+r "$dir/halt.rom"
for number in $(seq "${count:?how many guests}"); do
  disks=
  for disk in vda vdb; do
    truncate -s 8M "$dir/disks/$number-$disk"; chmod a+rw "$dir/disks/$number-$disk"
    disks+="<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$dir/disks/$number-$disk'/><target dev='$disk' bus='virtio'/></disk>"
  done
  tap=b$(cat "$dir/token")$number
  echo "${tap:0:15}" >>"$dir/taps" # libvirtd.sh removes them
  cat >"$dir/guest.xml" <<X
<domain type='$kind'><name>bench-$$-$number</name><memory unit='MiB'>32</memory><vcpu>4</vcpu><iothreads>1</iothreads>
  <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>$dir/halt.rom</loader></os>
  <devices><controller type='usb' model='none'/><memballoon model='virtio'/>$disks
    <interface type='ethernet'><target dev='${tap:0:15}'/><model type='virtio'/><rom enabled='no'/></interface>
  </devices></domain>
X
  virsh -q -c "$uri" create "$dir/guest.xml" --paused >/dev/null
done

all=$(IFS=,; echo "${groups[*]}")
"$exporter" serve --libvirt.uri "$read_only" --web.listen-address 127.0.0.1:9399 --collection.groups "$all" 2>"$dir/log" &
server=$!
until curl -sf -o "$dir/metrics" "$url" && grep -q '^libvirt_up 1' "$dir/metrics"; do sleep 0.2; done
echo "$count guests ($kind), $(nproc) CPUs ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r | cut -d- -f1), libvirt $(
  virsh -c "$uri" version --daemon | sed -n 's/^Running against daemon: //p'), load $(cut -d' ' -f1 /proc/loadavg)"
