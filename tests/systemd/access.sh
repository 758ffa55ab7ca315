#!/bin/bash
# Who may read what of libvirt: the matrix in docs/security.md.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh

examples=/usr/share/doc/domstats-exporter/examples/systemd
read_write='libvirt: {uri: "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"}'
systemctl start libvirtd-ro.socket libvirtd.socket polkit.service
dpkg --install /root/old.deb

outcome() {
  systemctl restart "$unit"
  local up; up=$(value libvirt_up)
  if [ "$up" = 1 ]; then echo works; elif [[ $(property StatusText) == *polkit* ]]; then echo "refused by polkit"; else property StatusText; fi
}
is "dynamic user, read-only socket" "$(outcome)" works
configure "$read_write"
is "dynamic user, read-write socket" "$(outcome)" "refused by polkit"
drop_in '[Service]' SupplementaryGroups=libvirt
is "dynamic user in group libvirt, read-write socket" "$(outcome)" "refused by polkit"
rm -r "/etc/systemd/system/$unit.d"

echo "# the documented way to a host where only the read-write socket exists"
systemctl stop --quiet libvirtd-ro.socket
mkdir -p "/etc/systemd/system/$unit.d"
cp "$examples/closed-socket.conf" "/etc/systemd/system/$unit.d/"
systemctl daemon-reload
is "user with a name, without a rule" "$(outcome)" "refused by polkit"
cp "$examples/60-domstats-exporter.rules" /etc/polkit-1/rules.d/
eventually "user with a name and a rule" works outcome
is "its user" "$(stat --format=%U "/proc/$(property MainPID)")" domstats-exporter

echo "# a user of the system in group libvirt; and a dynamic one whose name libvirtd cannot look up"
useradd --system --groups libvirt operator-of-all
rm /etc/polkit-1/rules.d/60-domstats-exporter.rules
drop_in '[Service]' DynamicUser=no User=operator-of-all
rm "/etc/systemd/system/$unit.d/closed-socket.conf"
systemctl daemon-reload
eventually "user in group libvirt" works outcome
rm "/etc/systemd/system/$unit.d/test.conf"
systemctl stop --quiet libvirtd.socket libvirtd-admin.socket libvirtd.service
systemctl start libvirtd-ro.socket libvirtd.socket
configure ''
systemctl daemon-reload
is "dynamic user again" "$(outcome)" works
cp /etc/nsswitch.conf /root/nsswitch.conf
sed -i '/^passwd:/ s/ systemd//' /etc/nsswitch.conf
systemctl restart libvirtd.service
[[ $(outcome) == *"Failed to find user record"* ]] || fail "without libnss-systemd: $(outcome)"
cp /root/nsswitch.conf /etc/nsswitch.conf
systemctl restart libvirtd.service
cp "$examples/closed-socket.conf" "/etc/systemd/system/$unit.d/"
cp "$examples/60-domstats-exporter.rules" /etc/polkit-1/rules.d/
configure "$read_write"

echo "# a TLS key that only a group may read"
groupadd --system tls-keys
for name in tls-key addresses; do
  cp "$examples/$name.conf" "/etc/systemd/system/$unit.d/"
done
systemctl daemon-reload
systemd-analyze verify --man=no "$unit"
eventually "with the other drop-ins" works outcome
is "its groups" "$(awk '/^Groups:/ { print NF - 1 }' "/proc/$(property MainPID)/status")" 2

echo "# as a container sees it: nobody, through the folder mounted read-only, also after libvirtd has made new sockets"
systemctl stop "$unit"
rm -r "/etc/systemd/system/$unit.d"
mkdir /mnt/libvirt
mount --bind /run/libvirt /mnt/libvirt
mount -o remount,bind,ro /mnt/libvirt
for _ in 1 2; do
  systemctl stop --quiet libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
  systemctl start libvirtd-ro.socket
  up=$(setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all \
    domstats-exporter scrape --libvirt.uri="qemu+unix:///system?socket=/mnt/libvirt/libvirt-sock-ro" | awk '$1 == "libvirt_up" { print $2 }')
  is "libvirt_up as nobody, through a read-only mount" "$up" 1
done

echo "# access control that lets a guest be listed, but not read"
systemctl stop --quiet libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
printf '%s\n' 'access_drivers = [ "polkit" ]' >>/etc/libvirt/libvirtd.conf
cat >/etc/polkit-1/rules.d/50-list-only.rules <<'RULE'
polkit.addRule(function (action, subject) {
    if (action.id.indexOf("org.libvirt.api.") !== 0)
        return polkit.Result.NOT_HANDLED;
    return action.id === "org.libvirt.api.domain.read" ? polkit.Result.NO : polkit.Result.YES;
});
RULE
# There is no QEMU to define a guest with; libvirt loads one that has been defined.
cat >/etc/libvirt/qemu/secret.xml <<'GUEST'
<domain type='qemu'>
  <name>secret</name>
  <uuid>0b6ff4a4-9c1f-4f5f-9a5a-0d3f4b1c2d3e</uuid>
  <memory>65536</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
GUEST
systemctl restart polkit.service
systemctl start libvirtd-ro.socket libvirtd.socket
is "guests as root sees them" "$(virsh --readonly --quiet list --all --name)" secret
rm --recursive --force "/etc/systemd/system/$unit.d"
configure ''
systemctl daemon-reload
systemctl restart "$unit"
eventually "domains that it may not read" 1 value libvirt_exporter_unreadable_domains
eventually "libvirt_up beside them" 1 value libvirt_up
is "samples of a guest that it may not read" "$(scrape | grep --count 'domain="secret"')" 0
said() { journalctl --quiet --unit="$unit" --since=-1min --output=cat | grep --count 'does not let this user read it'; }
is "lines about it in the log" "$(said)" 1
for _ in 1 2 3; do scrape >/dev/null; done
is "lines about it in the log after more scrapes" "$(said)" 1
check=$(systemd-run --quiet --pipe --wait --property=DynamicUser=yes --property=User=somebody \
  domstats-exporter check --config.file="$config" || true)
[[ $check == *org.libvirt.api.domain.read* ]] || fail "check: $check"
rm /etc/polkit-1/rules.d/50-list-only.rules
