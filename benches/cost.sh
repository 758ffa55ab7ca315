#!/bin/bash
# What a default scrape of N real guests costs the host, beside `virsh domstats --nowait` in turn: benches/cost.sh [N]
#
# CPU time of the exporter, of libvirtd and of all QEMUs. The exporter with its default, with everything from libvirt in each
# scrape (cpu_source: libvirt, no intervals), and with its default but for vm. The guests have run all of their firmware, which
# halts them. The groups that have an interval are not due within the few minutes that this takes; in scrapes every 15 seconds they are in
# one of twenty. ROUNDS (15): how many turns each has. EXPORTER names another build. INOVEX_EXPORTER and TELEGRAF (built with the tags
# custom, inputs.libvirt, inputs.internal and outputs.prometheus_client) name programs that are measured too; then the exporter also
# has a row with the groups that they have.
count=${1:-50} rounds=${ROUNDS:-15}
here=$(dirname "$(realpath "$0")")
# shellcheck source=benches/support/guests.sh
. "$here/support/guests.sh"
for number in $(seq "$count"); do virsh -q -c "$uri" resume "bench-$$-$number" >/dev/null; done
kill "$server"; wait "$server" || true
server=
start() { # start PORT CONFIGURATION
  echo "$2" >"$dir/$1.yaml"
  "$exporter" serve --config.file "$dir/$1.yaml" --libvirt.uri "$read_only" --web.listen-address "127.0.0.1:$1" 2>"$dir/$1.log" &
  others+=($!)
  # The first scrape of each guest has both sources; the definitions are read beside the next ones.
  until curl -sf -o "$dir/metrics" "http://127.0.0.1:$1/metrics" && grep -q '^libvirt_exporter_metadata_pending 0' "$dir/metrics"; do sleep 1; done
}
start 9391 '{}'
start 9392 'collection: {cpu_source: libvirt, intervals: {iothread: 0s, dirtyrate: 0s}}'
few='collect[]=state&collect[]=cpu_total&collect[]=balloon&collect[]=vcpu&collect[]=interface&collect[]=block'
peers=()
if [ -n "${INOVEX_EXPORTER:-}" ]; then
  "$INOVEX_EXPORTER" --libvirt.uri="$dir/sock/libvirt-sock-ro" --web.listen-address=127.0.0.1:9393 2>"$dir/inovex.log" & others+=($!)
  until curl -sf -o /dev/null http://127.0.0.1:9393/metrics; do sleep 0.2; done
  peers+=(--scraped "inovex' exporter" '^libvirt_' "$!" http://127.0.0.1:9393/metrics)
fi
if [ -n "${TELEGRAF:-}" ]; then
  cat >"$dir/telegraf.conf" <<X
[agent]
  interval = "15s"
  precision = "1ms"
  quiet = true
[[inputs.libvirt]]
  libvirt_uri = "$read_only"
  statistics_groups = ["state", "cpu_total", "balloon", "vcpu", "interface", "block"]
[[inputs.internal]]
  interval = "3s"
  collect_memstats = false
  namepass = ["internal_gather"]
[[outputs.prometheus_client]]
  listen = "127.0.0.1:9394"
  export_timestamp = true
  flush_interval = "1s"
X
  "$TELEGRAF" --config "$dir/telegraf.conf" 2>"$dir/telegraf.log" & others+=($!)
  until curl -sf -o "$dir/metrics" http://127.0.0.1:9394/metrics && grep -q '^libvirt_' "$dir/metrics"; do sleep 0.2; done
  peers+=(--gathered Telegraf '^libvirt_' "$!" http://127.0.0.1:9394/metrics 15 'internal_gather_gather_time_ns\{[^}]*input="libvirt"[^}]*\}')
fi
[ "${#peers[@]}" = 0 ] ||
  peers+=(--scraped 'domstats-exporter, the groups that they have' '^libvirt_domain_' "${others[0]}" "http://127.0.0.1:9391/metrics?$few")
"$here/turns.py" turns "$rounds" "$(cat "$dir/libvirtd.pid")" "$(pgrep -f "guest=bench-$$-")" \
  --command "\`virsh domstats --nowait\`" '^  .*=' "virsh -q -c $read_only domstats --nowait" \
  --scraped 'domstats-exporter, default' '^libvirt_domain_' "${others[0]}" http://127.0.0.1:9391/metrics \
  --scraped 'the same, all from libvirt' '^libvirt_domain_' "${others[1]}" http://127.0.0.1:9392/metrics \
  --scraped 'the default without vm' '^libvirt_domain_' "${others[0]}" 'http://127.0.0.1:9391/metrics?exclude[]=vm' "${peers[@]}"
echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
