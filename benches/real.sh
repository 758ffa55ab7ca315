#!/bin/bash
# One scrape of N real guests beside `virsh domstats --nowait`, Debian's prometheus-libvirt-exporter and collectd's virt plugin on
# the same guests, in turn, and pushes to real receivers: benches/real.sh [N]
#
# collectd excludes paused guests, so that all is measured once more after the guests have run all of their firmware, which halts
# them for good. Then nobody scrapes for IDLE seconds (60), one guest is frozen, and the daemon. ROUNDS (15): how many turns
# each has. EXPORTER names another build. Needs root, some 45 MB of memory a guest, and what tests/lab/install.sh bench installs.
count=${1:-50} rounds=${ROUNDS:-15}
here=$(dirname "$(realpath "$0")")
# shellcheck source=benches/support/guests.sh
. "$here/support/guests.sh"
for pair in strace:strace prometheus-libvirt-exporter:prometheus-libvirt-exporter collectd:collectd-core; do need "${pair%:*}" "${pair#*:}"; done

# The same pushed to the receivers of tests/otlp_receivers.rs: what the exporter sent, and what the receiver has.
"$lab/otlp-receiver.sh" >"$dir/python" & others=($!)
victoria=$("$lab/fetch.sh" trixie victoria-metrics)/usr/bin/victoria-metrics
"$victoria" -storageDataPath="$dir/victoria" -httpListenAddr=127.0.0.1:9398 -loggerLevel=ERROR -search.latencyOffset=0s & others+=($!)
until grep -q grpc "$dir/python"; do sleep 0.2; done
until curl -sf -o /dev/null http://127.0.0.1:9398/health; do sleep 0.2; done
printf 'web: {listen_addresses: []}\notlp: {interval: 10s}\n' >"$dir/push.yaml"
push() {
  : >"$dir/push.log"
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=$1 OTEL_EXPORTER_OTLP_PROTOCOL=$2 "$exporter" serve --config.file "$dir/push.yaml" \
    --libvirt.uri "$read_only" --collection.groups "$all" 2>"$dir/push.log" & others+=($!)
  until grep -q 'the receiver takes' "$dir/push.log"; do sleep 0.2; done
  kill "${others[-1]}"; wait "${others[-1]}" || true
  echo "push to $1 over $2: $(grep -o 'points=[0-9]*' "$dir/push.log")"
}
port() { grep -o "\"$1\": [0-9]*" "$dir/python" | cut -d' ' -f2; }
push "http://127.0.0.1:$(port http)/v1/metrics" http/protobuf
push "http://127.0.0.1:$(port grpc)" grpc
python3 -c 'import json, sys
for line in list(sys.stdin)[1:]:
    push = json.loads(line); print("  a request over", push["transport"], "had", len(push["series"]), "points,", push["bytes"], "bytes")' <"$dir/python"
push http://127.0.0.1:9398/opentelemetry/v1/metrics http/protobuf
curl -sf http://127.0.0.1:9398/internal/force_flush
echo "  VictoriaMetrics has $(curl -sf 'http://127.0.0.1:9398/api/v1/query?nocache=1' --data-urlencode 'query=count({__name__=~"(libvirt|process).+"})' | grep -o '"[0-9]*"' | tail -n 1 | tr -d '"') series"
kill "${others[@]}" 2>/dev/null || true
others=()

# The peers: Debian's exporter asks over a read-write connection when it is asked, collectd by itself every 15 seconds, between
# which the others have their turns.
prometheus-libvirt-exporter --libvirt.uri="$uri" --web.listen-address=127.0.0.1:9397 2>"$dir/peer.log" & others=($!)
cat >"$dir/collectd.conf" <<X
Hostname "bench"
FQDNLookup false
BaseDir "$dir"
PIDFile "$dir/collectd.pid"
Interval 15
LoadPlugin logfile
LoadPlugin virt
LoadPlugin write_prometheus
<Plugin logfile>
  LogLevel warning
  File "$dir/collectd.log"
</Plugin>
<Plugin virt>
  Connection "$read_only"
  ExtraStats "cpu_util disk disk_err disk_allocation disk_capacity disk_physical domain_state memory pcpu perf vcpu vcpupin"
</Plugin>
<Plugin write_prometheus>
  Host "127.0.0.1"
  Port "9396"
</Plugin>
X
few='collect[]=state&collect[]=cpu_total&collect[]=balloon&collect[]=vcpu&collect[]=interface&collect[]=block'
until curl -sf -o /dev/null http://127.0.0.1:9397/metrics; do sleep 0.2; done
# It looks for new disks once a minute, and is restarted for guests that it has excluded.
start_collectd() {
  collectd -f -C "$dir/collectd.conf" >>"$dir/collectd.log" 2>&1 & others=("${others[0]}" "$!")
  until curl -sf -o /dev/null http://127.0.0.1:9396/metrics; do sleep 0.2; done
}
stop_collectd() { kill "${others[1]}"; wait "${others[1]}" || true; }
turns() {
  start_collectd
  # The exporter three times: with all that virsh asks for, with its default, and with the groups of what Debian's exporter has.
  "$here/turns.py" turns "$rounds" "$(cat "$dir/libvirtd.pid")" "$(pgrep -f "guest=bench-$$-")" \
    --command "\`virsh domstats --nowait\`" '^  .*=' "virsh -q -c $read_only domstats --nowait" \
    --scraped domstats-exporter '^libvirt_domain_' "$server" "$url" \
    --scraped 'the same, default groups' '^libvirt_domain_' "$server" "$url?exclude[]=vcpu_kvm" \
    --scraped "the same, Debian's groups" '^libvirt_domain_' "$server" "$url?$few" \
    --scraped "Debian's exporter" '^libvirt_domain_' "${others[0]}" http://127.0.0.1:9397/metrics \
    --periodic "collectd's virt plugin" '^collectd_virt_' "${others[1]}" http://127.0.0.1:9396/metrics 15
  stop_collectd
}
echo "All guests are paused:"
turns
for number in $(seq "$count"); do virsh -q -c "$uri" resume "bench-$$-$number" >/dev/null; done
echo "All guests are halted:"
turns
sort -u "$dir/peer.log" "$dir/collectd.log" | grep -iE 'fail|error' | head -n 5 || true

# What becomes of the others where one guest is frozen, each by itself.
qemu=$(pgrep -f "guest=bench-$$-1,")
frozen() { # frozen NAME COMMAND...
  kill -STOP "$qemu"
  local code=0; timeout 40 "${@:2}" >"$dir/frozen" || code=$?
  if [ $code = 124 ]; then echo "one frozen: $1: no answer within 40 s"; else echo "one frozen: $1: $(<"$dir/frozen") (exit code $code)"; fi
  kill -CONT "$qemu"; sleep 5
}
# shellcheck disable=SC2016 # the inner shell expands these
frozen virsh bash -c 'virsh -q -c "$1" domstats --nowait | grep -c "^Domain"' bash "$read_only"
frozen "Debian's exporter" curl -sf -o "$dir/metrics" -w '%{http_code} after %{time_total} s' http://127.0.0.1:9397/metrics
# 35 s are two of collectd's readings; the frozen guest's last one could have been just before.
start_collectd; sleep 20
# shellcheck disable=SC2016
frozen "collectd, guests with samples of the last 20 s" bash -c 'sleep 35; curl -sf "$1" | awk -v since="$(date -d "-20 seconds" +%s)" \
  "/^collectd_virt_virt_cpu_total/ { all++; fresh += \$NF / 1000 > since } END { print fresh + 0, \"of\", all + 0 }"' bash http://127.0.0.1:9396/metrics
kill "${others[@]}"; wait "${others[@]}" || true
others=()

sleep 5
"$here/turns.py" idle "${IDLE:-60}" "$server"

# One guest frozen: what the scrape that meets it takes, and what later ones do.
scrape() { curl -sf -o "$dir/metrics" -w '%{time_total}' "$url"; }
complete() { grep -c '^libvirt_domain_stats_complete.* 1$' "$dir/metrics"; }
middle() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
normal=$(for _ in {1..9}; do scrape; echo; done | middle)
qemu=$(pgrep -f "guest=bench-$$-1,")
kill -STOP "$qemu"; first=$(scrape); of_first=$(complete)
later=$(for _ in {1..9}; do scrape; echo; done | middle); of_later=$(complete)
kill -CONT "$qemu"; thawed=$(scrape); of_thawed=$(complete)
echo "normal $normal s; one frozen: first $first s ($of_first complete), later $later s ($of_later); thawed $thawed s ($of_thawed)"

# The daemon frozen: the first answer, and later ones.
kill -STOP "$(cat "$dir/libvirtd.pid")"; first=$(scrape); later=$(for _ in {1..5}; do scrape; echo; done | middle)
kill -CONT "$(cat "$dir/libvirtd.pid")"
echo "daemon frozen: first $first s, later $later s"
awk '/^(VmHWM|VmRSS|Threads)/{print}' "/proc/$server/status" | tr '\n' ' '; echo
