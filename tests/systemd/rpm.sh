#!/bin/bash
# The rpm's life, on Debian's rpm: installed, upgraded, erased. /root/new.rpm is the same with a higher release.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh

systemctl start libvirtd-ro.socket
# The database knows nothing of what dpkg has installed.
rpm --install --nodeps /root/old.rpm
is "what the database misses" "$(rpm --verify --nodeps domstats-exporter)" ""
# Whether it is enabled is for the distribution's presets to say.
systemctl enable --quiet --now "$unit"
eventually "libvirt_up after libvirtd has started" 1 value libvirt_up
is "the service" "$(property ActiveState) $(property SubState)" "active running"
systemd-analyze verify --man=no "/usr/lib/systemd/system/$unit" /usr/lib/systemd/system/domstats-exporter.socket

echo "# an upgrade keeps the administrator's settings and flags, and serves the new version"
configure 'log: {level: debug}' '# mine'
echo 'ARGS="--web.telemetry-path=/other"' >/etc/sysconfig/domstats-exporter
pid=$(property MainPID)
rpm --upgrade --nodeps /root/new.rpm
grep -q '^# mine$' "$config" || fail "the settings were overwritten"
is "the release" "$(rpm --query --queryformat '%{RELEASE}' domstats-exporter)" 2
path=/other
eventually "libvirt_up after the upgrade" 1 value libvirt_up
[ "$(property MainPID)" != "$pid" ] || fail "the old program still runs"

echo "# erased: it has ended, and only changed settings are left"
rpm --erase domstats-exporter
is "the service" "$(systemctl is-active "$unit" || true)" inactive
left=$(find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /root -o -path /tmp -o -path /var/lib/rpm \) -prune -o -type f -path '*domstats*' -print | sort | xargs)
is "what is left" "$left" "/etc/domstats-exporter/config.yaml.rpmsave /etc/sysconfig/domstats-exporter.rpmsave"
