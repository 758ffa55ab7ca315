#!/bin/bash
# In the container that guest.sh boots.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh

# Guests of a container that has no KVM, no security driver, a /dev of its own, and the machine's control groups read-only.
printf '%s\n' 'security_driver = "none"' 'namespaces = []' 'cgroup_controllers = []' 'remember_owner = 0' >>/etc/libvirt/qemu.conf
systemctl start libvirtd-ro.socket libvirtd.socket
truncate --size=8M /var/lib/libvirt/images/guest
cat >/root/guest.xml <<'GUEST'
<domain type='qemu'>
  <name>guest</name>
  <memory unit='MiB'>32</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' model='none'/><video><model type='none'/></video>
    <disk type='file' device='disk'><source file='/var/lib/libvirt/images/guest'/><target dev='vda' bus='virtio'/></disk>
    <interface type='user'><model type='virtio'/></interface>
  </devices>
</domain>
GUEST
virsh --quiet define /root/guest.xml
virsh --quiet start guest

# The guest's own samples: whether it runs, whether everything of it is there, and how many there are.
of_guest() { scrape | awk -v name="$1" 'index($1, name "{domain=\"guest\",") == 1 && /'"${2:-}"'/ { print $2 }'; }
running() { of_guest libvirt_domain_state 'state="running"'; }
shown() {
  eventually "the guest's state" 1 running
  eventually "whether the guest is complete" 1 of_guest libvirt_domain_stats_complete
  local samples; samples=$(scrape | grep --count 'domain="guest"')
  ((samples > 50)) || fail "$1: $samples samples of the guest"
  echo "$1: $samples samples of the guest, $(of_guest libvirt_domain_vcpu_time_seconds_total 'vcpu="0"') s of time of its first vCPU"
}
# upgrade COMMAND...: keeps settings, restarts the service
upgrade() {
  configure 'log: {level: debug}' '# mine'
  systemctl restart "$unit"
  local pid; pid=$(property MainPID)
  "$@"
  is "the last line of the settings" "$(tail -n 1 "$config")" "# mine"
  eventually "the state" active property ActiveState
  [ "$(property MainPID)" != "$pid" ] || fail "the old program still runs"
  shown "after the upgrade"
}

echo "# the Debian package"
dpkg --install /root/first.deb
shown "the Debian package"
upgrade dpkg --install /root/next.deb
is "the version" "$(dpkg-query --show --showformat='${Version}' domstats-exporter | sed 's/.*-//')" 2
dpkg --remove domstats-exporter
is "the service" "$(systemctl is-active "$unit" || true)" inactive
is "the settings" "$(tail -n 1 "$config")" "# mine"
dpkg --purge domstats-exporter
[ ! -e "$config" ] || fail "a purge leaves the settings"

echo "# the rpm"
# The database of rpm does not know Debian's packages.
rpm --install --nodeps /root/first.rpm
systemctl enable --quiet --now "$unit"
shown "the rpm"
upgrade rpm --upgrade --nodeps /root/next.rpm
is "the release" "$(rpm --query --queryformat '%{RELEASE}' domstats-exporter)" 2
rpm --erase domstats-exporter
is "the service" "$(systemctl is-active "$unit" || true)" inactive
is "the settings" "$(tail -n 1 "$config.rpmsave")" "# mine"
is "the guest" "$(virsh domstate guest | head -n 1)" running
