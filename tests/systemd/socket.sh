#!/bin/bash
# Socket activation: systemd owns the port, before the service runs and while it restarts.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh

systemctl start libvirtd-ro.socket
dpkg --install /root/old.deb
systemctl stop "$unit"
configure 'web: {systemd_socket: true}'
systemctl enable --quiet --now domstats-exporter.socket
is "the service before a connection" "$(property ActiveState)" inactive
eventually "libvirt_up from the scrape on that starts it" 1 value libvirt_up
is "the service after it" "$(property ActiveState)" active

echo "# no scrape is refused while it restarts"
(for _ in {1..60}; do scrape >/dev/null || echo refused; sleep 0.05; done) >/root/refusals 2>&1 &
scraper=$!
for _ in 1 2 3; do systemctl restart "$unit"; sleep 0.3; done
wait "$scraper"
is "the refusals" "$(cat /root/refusals)" ""

echo "# an upgrade keeps the socket"
dpkg --install /root/new.deb
eventually "libvirt_up after the upgrade" 1 value libvirt_up
is "the socket" "$(systemctl is-active domstats-exporter.socket)" active
dpkg --purge domstats-exporter
is "the socket after a purge" "$(systemctl is-active domstats-exporter.socket || true)" inactive
