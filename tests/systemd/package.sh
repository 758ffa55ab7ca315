#!/bin/bash
# The package's life: installed, upgraded, removed, purged. /root/new.deb is the same with a higher revision.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh

systemctl start libvirtd-ro.socket
is "libvirtd before the first scrape" "$(systemctl is-active libvirtd.service || true)" inactive
dpkg --install /root/old.deb
# systemctl start, which the package calls, returns when the service says that it is ready. libvirtd may take longer to start
# than a scrape waits.
scrape >/dev/null
eventually "libvirt_up after libvirtd has started" 1 value libvirt_up
is "libvirtd after it" "$(systemctl is-active libvirtd.service)" active
is "the service" "$(systemctl is-enabled "$unit") $(property ActiveState) $(property SubState)" "enabled active running"
is "the socket" "$(systemctl is-enabled domstats-exporter.socket || true)" disabled
[[ $(property StatusText) == "connected to qemu:///system, libvirt "* ]] || fail "the status is $(property StatusText)"
uid=$(stat --format=%u "/proc/$(property MainPID)")
((uid >= 61184 && uid <= 65519)) || fail "$uid is no dynamic user"
is "its groups" "$(awk '/^Groups:/ { print NF - 1 }' "/proc/$(property MainPID)/status")" 1
is "its capabilities" "$(awk '/^CapBnd:/ { print $2 }' "/proc/$(property MainPID)/status")" 0000000000000000
for name in cpu_seconds_total resident_memory_bytes open_fds max_fds threads start_time_seconds; do
  [ -n "$(value "process_$name")" ] || fail "under the hardening, process_$name is missing"
done

echo "# the unit, as systemd has loaded it"
systemd-analyze verify --man=no "/usr/lib/systemd/system/$unit" /usr/lib/systemd/system/domstats-exporter.socket
systemd-analyze security --threshold=15 "$unit" | tail -n 1
is "the rest of the system" "$(systemctl list-units --state=failed --no-legend)" ""

echo "# an upgrade keeps the administrator's settings, and serves the new version"
configure 'log: {level: debug}' '# mine'
pid=$(property MainPID)
dpkg --install /root/new.deb
grep -q '^# mine$' "$config" || fail "the settings were overwritten"
is "the service" "$(property ActiveState)" active
[ "$(property MainPID)" != "$pid" ] || fail "the old program still runs"
eventually "libvirt_up after the upgrade" 1 value libvirt_up
systemctl disable --quiet --now "$unit"
dpkg --install /root/new.deb
is "what was disabled" "$(systemctl is-enabled "$unit" || true)" disabled
systemctl enable --quiet "$unit"

echo "# removed: it has ended, the settings are there; purged: nothing is"
systemctl start "$unit"
dpkg --remove domstats-exporter
is "the service" "$(systemctl is-active "$unit" || true)" inactive
! scrape 2>/dev/null || fail "an exporter still serves"
[ -f "$config" ] || fail "a removal has taken the settings with it"
dpkg --purge domstats-exporter
left=$(find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /root -o -path /tmp \) -prune -o -name '*domstats*' -print)
is "what a purge leaves" "$left" ""
