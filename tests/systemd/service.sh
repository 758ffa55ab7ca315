#!/bin/bash
# The running service: watchdog, reload, libvirtd coming and going.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh

systemctl start libvirtd-ro.socket
drop_in '[Service]' WatchdogSec=3
dpkg --install /root/old.deb

echo "# heartbeats keep it running for longer than the watchdog waits; frozen, it is restarted"
pid=$(property MainPID)
sleep 5
is "its process" "$(property MainPID)" "$pid"
kill -STOP "$pid"
eventually "the number of restarts" 1 property NRestarts
eventually "the state" active property ActiveState
[ "$(property MainPID)" != "$pid" ] || fail "the frozen process is still the main one"
eventually libvirt_up 1 value libvirt_up
journalctl --quiet --unit="$unit" --grep='Watchdog timeout' >/dev/null || fail "it was not the watchdog that did it"

echo "# a good reload is in effect, a bad one is told and changes nothing"
pid=$(property MainPID)
configure 'web: {telemetry_path: /other}'
systemctl reload "$unit"
path=/other
eventually "libvirt_up at the new path" 1 value libvirt_up
configure 'web: {telemetry_path: /third, nonsense: 1}'
systemctl reload "$unit"
eventually "whether the reload was good" 0 value libvirt_exporter_config_last_reload_successful
told() { [[ $(property StatusText) != *"not in effect"*nonsense* ]] || echo yes; }
eventually "the fault in the status" yes told
configure ''
systemctl reload "$unit"
path=/metrics
eventually libvirt_up 1 value libvirt_up
is "the state" "$(property ActiveState) $(property SubState)" "active running"
is "its process" "$(property MainPID)" "$pid"

echo "# libvirtd stopped, started by the next attempt, restarted: the exporter stays"
systemctl stop --quiet libvirtd-ro.socket libvirtd.socket libvirtd-admin.socket libvirtd.service
eventually libvirt_up 0 value libvirt_up
is "the state without libvirt" "$(property ActiveState)" active
disconnected() { [[ $(property StatusText) != "no connection to libvirt: "* ]] || echo yes; }
eventually "the loss in the status" yes disconnected
systemctl start libvirtd-ro.socket
eventually libvirt_up 1 value libvirt_up
systemctl restart libvirtd.service
eventually libvirt_up 1 value libvirt_up
is "its process" "$(property MainPID)" "$pid"
# Also where it starts first.
systemctl stop --quiet "$unit" libvirtd-ro.socket libvirtd.socket libvirtd-admin.socket libvirtd.service
systemctl start "$unit"
is "libvirt_up" "$(value libvirt_up)" 0

echo "# a bad configuration at the start is said, and not tried again"
configure 'nonsense: 1'
! systemctl restart "$unit" 2>/dev/null || fail "it started with a bad configuration"
is "the exit code" "$(property ExecMainStatus)" 2
is "the state" "$(property ActiveState) $(property SubState)" "failed failed"
sleep 7 # longer than RestartSec
is "the number of restarts since" "$(property NRestarts)" 0
journalctl --quiet --unit="$unit" --grep='config.yaml:1:1.*nonsense' >/dev/null || fail "the journal does not say what is wrong"
