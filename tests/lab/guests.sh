#!/bin/bash
# Real guests for a lab that libvirtd.sh or suite.sh started.
#
#   guests.sh DIR GUEST...    defines each guest, brings it into its state, prints its name (GUEST-TOKEN: see libvirtd.sh)
#
# The demo's:    web     running: 2 vCPUs, two disks, a tap NIC, an I/O thread that polls, a balloon with a stats period
#                db      paused before its first instruction; old  shut off
# The tests':    chain   a disk with two backing layers, and one without
#                tcg     never KVM, whatever the machine can do
#                sparse  vCPUs 0 and 2 of 4; three NICs of which only the second has a host device
#                timed   I/O threads, timed statistics and a latency histogram (libvirt 11.10 and 12.1), title, metadata, perf events,
#                a write threshold, a measured dirty rate
#                mover   nothing that another libvirtd of the machine could not take over; likewise mover2 and so on
#                odd     shut off, with quotes, spaces, markup and UTF-8 in its name; brackets, comma and UTF-8 in that of:
#                odd2    the same, running
#                linux   a Linux that can be told what to do (see linux-init.sh): two of four vCPUs, room for more memory, a qcow2 disk,
#                a drive for media, a channel for a guest agent, a balloon that reports
# A host's:      api cache mysql mail  guests of two projects of OpenStack, of several sizes, whose load varies
#                batch   the same, at its CPU quota, whose guest waits for its CPU
#                store   at the throttle of its disk, for which firmware waits with all of the CPU that its quota leaves it
#                All of these together take a quarter of a CPU.
#                pod pod2  virtual machines of two namespaces of KubeVirt
# All but old, odd and db run, on KVM where that works. Only linux has an operating system: guest.s is all that others execute.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(realpath "$0")")
[ $# -ge 2 ] || die "usage: guests.sh DIR GUEST..."
dir=$(realpath "$1"); shift
[ -f "$dir/uri" ] || die "no libvirtd runs in $dir (libvirtd.sh start $dir)"
token=$(cat "$dir/token")
need qemu-img qemu-utils

kind=qemu
if lab_virsh "$dir" domcapabilities --virttype kvm --arch x86_64 >/dev/null 2>&1; then kind=kvm; fi
taps=no
if [[ $(cat "$dir/uri") == *:///system* ]] && [ -w /dev/net/tun ]; then taps=yes; fi

# A raw disk of $2 MiB that starts with the boot sector, whose `load` is the words of $3 (see guest.s).
boot_disk() {
  if [ ! -f "$dir/boot.bin" ]; then
    need ld binutils
    as --32 "$here/guest.s" -o "$dir/boot.o" && ld -m elf_i386 -Ttext 0x7c00 --oformat binary "$dir/boot.o" -o "$dir/boot.bin"
  fi
  cp "$dir/boot.bin" "$1"; chmod 644 "$1"; truncate -s "$2M" "$1"
  local word bytes=
  for word in ${3:-}; do bytes+=$(printf '\\x%02x\\x%02x' $((word & 255)) $((word >> 8))); done
  printf '%b' "$bytes" | dd of="$1" bs=1 seek=504 conv=notrunc status=none
}

# disk TARGET FILE FORMAT [ATTRIBUTES OF DRIVER] [CHILDREN OF DRIVER] [MORE CHILDREN]
disk() {
  local order=1; [ "$1" = vda ] || order=2 # without an order, the firmware would not see it
  echo "<disk type='file' device='disk'><driver name='qemu' type='$3' ${4:-}>${5:-}</driver>
    <source file='$2'/><target dev='$1' bus='virtio'/><boot order='$order'/>${6:-}</disk>"
}

# nic GUEST NUMBER: a tap device of the guest's own where there can be one; the boot sector sends through the first.
nic() {
  local tap="t$token${1:0:2}$2" model=virtio; [ "$2" != 0 ] || model=ne2k_pci
  [ "$taps" = yes ] || { user_nic; return; }
  echo "$tap" >>"$dir/taps"
  echo "<interface type='ethernet'><target dev='$tap'/><model type='$model'/><rom enabled='no'/></interface>"
}
user_nic() { echo "<interface type='user'><model type='virtio'/><rom enabled='no'/></interface>"; }

# What all guests have in common; the arguments are XML: elements of <domain>, elements of <devices>, elements of <os>.
define() {
  local xml=$dir/$guest.xml
  chmod a+rw "$dir/disks/$guest"* # the daemon's user may be another one; the lab folder is closed to all others
  cat >"$xml" <<X
<domain type='$kind'>
  <name>$name</name><memory unit='MiB'>${memory:-32}</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type>${3:-}</os>
  <features><acpi/></features>
  $1
  <devices>
    <controller type='usb' model='none'/><video><model type='none'/></video>
    <memballoon model='virtio'><stats period='2'/></memballoon>
    $2
  </devices>
</domain>
X
  lab_virsh "$dir" define "$xml" >/dev/null
}

# cloud PROJECT FLAVOR VCPUS MIB LOAD [ELEMENTS OF <domain>] [CHILDREN OF <disk>]: the guest as Nova would define it.
cloud() {
  local clouds='api cache mysql mail batch store' number
  number=$(wc -w <<<"${clouds%"$guest"*}") # the same at each call
  name=$(printf 'instance-%08x' $((token * 16 + number)))
  boot_disk "$disk0" 16 "$5"
  memory=$4 define "${6:-}<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>$guest</nova:name>
      <nova:flavor name='$2'/><nova:owner><nova:user uuid='1'>ada</nova:user><nova:project uuid='2'>$1</nova:project></nova:owner>
      </nova:instance></metadata>$3" "$(disk vda "$disk0" raw '' '' "${7:-}") $(nic "c$number" 0)"
  lab_virsh "$dir" start "$name" >/dev/null
}

for guest in "$@"; do
  name=$guest-$token
  disk0=$dir/disks/$guest-0 disk1=$dir/disks/$guest-1
  case $guest in
    web)
      boot_disk "$disk0" 8; boot_disk "$disk1" 16
      define "<vcpu>2</vcpu><iothreads>1</iothreads>" \
        "$(disk vda "$disk0" raw "iothread='1'") $(disk vdb "$disk1" raw) $(nic web 0)"
      lab_virsh "$dir" start "$name" >/dev/null
      # In the XML only since libvirt 9.4; on a running guest for ever.
      lab_virsh "$dir" iothreadset "$name" 1 --poll-max-ns 32768 --poll-grow 2 --poll-shrink 2 >/dev/null
      ;;
    db)
      boot_disk "$disk0" 8
      define "<vcpu>1</vcpu>" "$(disk vda "$disk0" raw) $(nic db 0)"
      lab_virsh "$dir" start "$name" --paused >/dev/null
      ;;
    old)
      boot_disk "$disk0" 8
      define "<vcpu>1</vcpu>" "$(disk vda "$disk0" raw)"
      ;;
    chain)
      boot_disk "$disk0.base" 8; boot_disk "$disk1" 8
      qemu-img create -q -f qcow2 -F raw -b "$disk0.base" "$disk0.middle"
      qemu-img create -q -f qcow2 -F qcow2 -b "$disk0.middle" "$disk0"
      define "<vcpu>1</vcpu>" "$(disk vda "$disk0" qcow2) $(disk vdb "$disk1" raw) $(nic chain 0)"
      lab_virsh "$dir" start "$name" >/dev/null
      ;;
    tcg)
      boot_disk "$disk0" 8
      kind=qemu define "<vcpu>2</vcpu>" "$(disk vda "$disk0" raw) $(nic tcg 0)"
      lab_virsh "$dir" start "$name" >/dev/null
      ;;
    mover*)
      boot_disk "$disk0" 8
      define "<vcpu>1</vcpu>" "$(disk vda "$disk0" raw) $(user_nic)"
      lab_virsh "$dir" start "$name" >/dev/null
      ;;
    linux)
      # Whole before another guest of the lab needs it.
      [ -f "$dir/initrd" ] || "$here/linux.sh" "$dir"
      qemu-img create -q -f qcow2 "$disk0" 64M
      kind=qemu memory=256 define "<maxMemory slots='2' unit='MiB'>1024</maxMemory><vcpu current='2'>4</vcpu>
          <cpu><numa><cell id='0' cpus='0-3' memory='256' unit='MiB'/></numa></cpu>" \
        "<disk type='file'><driver name='qemu' type='qcow2'/><source file='$disk0'/><target dev='vda' bus='virtio'/></disk>
        $(user_nic)
        <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>
        <serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>" \
        "<kernel>$dir/vmlinuz</kernel><initrd>$dir/initrd</initrd><cmdline>console=ttyS0 quiet panic=-1</cmdline>"
      lab_virsh "$dir" start "$name" >/dev/null
      ;;
    sparse)
      boot_disk "$disk0" 8
      define "<vcpu current='2'>4</vcpu><vcpus>
          <vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='no' hotpluggable='yes'/>
          <vcpu id='2' enabled='yes' hotpluggable='yes'/><vcpu id='3' enabled='no' hotpluggable='yes'/></vcpus>" \
        "$(disk vda "$disk0" raw) $(user_nic) $(nic sparse 0) $(user_nic)"
      lab_virsh "$dir" start "$name" >/dev/null
      ;;
    timed)
      boot_disk "$disk0" 8
      events=
      # The kernel's own events need no performance counters in the machine, but the right to open them.
      [[ $(cat "$dir/uri") != *:///system* ]] || events="<perf><event name='page_faults' enabled='yes'/><event name='context_switches' enabled='yes'/>
          <event name='cpu_migrations' enabled='yes'/><event name='task_clock' enabled='yes'/></perf>"
      # Of the two intervals, the short one has forgotten everything soon after a pause, the long one stands still for a comparison.
      bins="<bin start='0'/><bin start='10000'/><bin start='100000'/><bin start='1000000'/>"
      define "<title>A &quot;timed&quot; guest</title><vcpu>1</vcpu><iothreads>2</iothreads>
          <metadata><lab:owner xmlns:lab='urn:example:lab' team='storage'>ada</lab:owner></metadata>$events" \
        "$(disk vda "$disk0" raw "iothread='2'" "<statistics><statistic interval='1'/><statistic interval='600'/>
          <latency-histogram>$bins</latency-histogram></statistics>") $(nic timed 0)"
      lab_virsh "$dir" start "$name" >/dev/null
      # Two more groups of keys: a write threshold, and the rate at which the guest dirties its memory.
      lab_virsh "$dir" domblkthreshold "$name" vda 4M >/dev/null
      lab_virsh "$dir" domdirtyrate-calc "$name" --seconds 1 >/dev/null
      ;;
    api) cloud shop m1.medium "<vcpu>2</vcpu>" 96 "1 40 1" ;;
    cache) cloud shop m1.small "<vcpu>1</vcpu>" 48 "1 60 1" ;;
    mysql) cloud shop m1.large "<vcpu>4</vcpu>" 160 "3 40 1" ;;
    mail) cloud office m1.small "<vcpu>1</vcpu>" 48 "1 4 0" ;;
    batch) cloud office m1.small "<vcpu>1</vcpu>" 48 "1 1 4" "<cputune><shares>512</shares><period>100000</period><quota>5000</quota></cputune>" ;;
    store) cloud office m1.medium "<vcpu>2</vcpu>" 96 "4 2 0" "<cputune><period>100000</period><quota>5000</quota></cputune>" "<iotune><total_iops_sec>8</total_iops_sec></iotune>" ;;
    pod | pod2)
      name=shop_web-$token
      [ "$guest" = pod ] || name=office_mail-$token
      boot_disk "$disk0" 8
      define "<vcpu>1</vcpu><metadata><kubevirt xmlns='http://kubevirt.io'><uid>$(cat /proc/sys/kernel/random/uuid)</uid></kubevirt></metadata>" \
        "$(disk vda "$disk0" raw) $(nic "p${guest: -1}" 0)"
      lab_virsh "$dir" start "$name" >/dev/null
      ;;
    odd | odd2)
      boot_disk "$disk0" 8
      name="odd $token [\"a,b\"] &lt;Grüße&gt; 漢字 \\ 100% 'x'"
      [ "$guest" = odd ] || name="odd2-$token [a,b] Grüße 漢字"
      define "<vcpu>1</vcpu>" "$(disk vda "$disk0" raw)"
      [ "$guest" = odd ] || lab_virsh "$dir" start "$name" >/dev/null
      name=${name//&lt;/<}; name=${name//&gt;/>}
      ;;
    *) die "$guest: no such guest" ;;
  esac
  echo "$name"
done
