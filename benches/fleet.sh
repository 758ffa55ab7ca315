#!/bin/bash
# A fleet on one machine, and what it asks of one Prometheus: benches/fleet.sh
#
# HOSTS exporters (100), each on a fake libvirtd of its own with DOMAINS guests (50) whose counters grow, and the Prometheus of
# the Debian package, which scrapes them all every INTERVAL seconds (15) and evaluates the shipped rules and alerts every
# EVALUATION seconds (60, Prometheus' default). Two more hosts are broken and one guest has crashed, so that some alerts have a
# cause and every other one has none. After MINUTES (6) it prints the figures of benches/README.md, waits for those alerts and
# removes everything; a rule or scrape that fails and an alert without a cause are an exit code of 1.
# BEFORE names a folder with other rules: the same Prometheus then evaluates none, and these and the shipped ones in turns, ROUNDS (2)
# times for PHASE seconds (240, a round of the slowest rules) each, and prints what a minute of each costs. That is all it prints.
# EXPORTER and FAKE name other builds, PORT (21000) the first of HOSTS + 3 ports on the loopback interface.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
hosts=${HOSTS:-100} domains=${DOMAINS:-50} interval=${INTERVAL:-15} evaluation=${EVALUATION:-60} minutes=${MINUTES:-6} port=${PORT:-21000}
before=${BEFORE:+$(realpath "$BEFORE")} after=$(realpath "$here/../alerts") phase=${PHASE:-240} rounds=${ROUNDS:-2}
release=$here/../target/release
exporter=$(realpath "${EXPORTER:-$release/domstats-exporter}") fake=$(realpath "${FAKE:-$release/fake-libvirtd}")
die() { printf 'fleet: %s\n' "$*" >&2; exit 1; }
for program in "$exporter" "$fake"; do [ -x "$program" ] || die "$program is missing; make fleet builds it"; done
for program in prometheus python3; do command -v $program >/dev/null || die "install the Debian package $program (make install does)"; done
for number in $(seq "$port" $((port + hosts + 2))); do
  ! (exec 3<>"/dev/tcp/127.0.0.1/$number") 2>/dev/null || die "port $number is taken; PORT names another first one"
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/fleet.XXXXXX")
cleanup() {
  # `timeout` signals twice, and an impatient user too: the second signal must not end what the first began.
  trap - EXIT
  trap '' INT TERM HUP
  # What bash knows of, not a list of ours: a signal may come between a start and the note of it.
  local started
  mapfile -t started < <(jobs -p)
  kill "${started[@]}" 2>/dev/null || true
  # An exporter answers what it was asked before it ends; the response is not used.
  for _ in {1..50}; do kill -0 "${started[@]}" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "${started[@]}" 2>/dev/null || true
  wait "${started[@]}" 2>/dev/null || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
run() { # run ROLE LOG PROGRAM...: in the background; its id and role are noted
  local role=$1 log=$2; shift 2
  "$@" >"$log" 2>&1 &
  echo "$role $!" >>"$dir/processes"
}

# The names of the guests have their host's in them: in a real fleet no two guests share a name or a UUID.
for number in $(seq "$hosts"); do
  {
    echo "hostname: hypervisor-$number"
    echo "domains:"
    echo "- {name: 'hypervisor-$number-vm-{}', count: $domains, template: medium}"
    [ "$number" != 1 ] || echo "- {name: crashed, state: crashed, template: medium}"
  } >"$dir/$number.yaml"
  run fake "$dir/$number.fake.log" "$fake" --socket "$dir/$number.sock" --scenario "$dir/$number.yaml" --live
done
for number in $(seq "$hosts"); do
  for _ in {1..300}; do [ ! -S "$dir/$number.sock" ] || continue 2; sleep 0.1; done
  cat "$dir/$number.fake.log" >&2
  die "the fake daemon $number does not listen"
done
targets() {
  for number in $(seq "$hosts"); do echo "  - {targets: ['127.0.0.1:$((port + number))'], labels: {instance: hypervisor-$number}}"; done
  # One whose libvirt is gone, and one that is gone itself.
  echo "  - {targets: ['127.0.0.1:$((port + hosts + 1))'], labels: {instance: without-libvirt}}"
  echo "  - {targets: ['127.0.0.1:$((port + hosts + 2))'], labels: {instance: down}}"
}
serve() { # serve ROLE NUMBER
  run "$1" "$dir/$2.log" "$exporter" serve --libvirt.uri "qemu+unix:///system?socket=$dir/$2.sock" \
    --web.listen-address "127.0.0.1:$((port + $2))" --log.level warn
}
for number in $(seq "$hosts"); do serve exporter "$number"; done
serve broken $((hosts + 1))

ln -s "$after" "$dir/rules"
cat >"$dir/prometheus.yml" <<X
global: {scrape_interval: ${interval}s, scrape_timeout: $((interval < 10 ? interval : 10))s, evaluation_interval: ${evaluation}s}
rule_files: ['$dir/rules/rules.yaml', '$dir/rules/alerts.yaml']
scrape_configs:
- job_name: prometheus
  static_configs: [{targets: ['127.0.0.1:$port']}]
- job_name: libvirt
  static_configs:
$(targets)
X
run prometheus "$dir/prometheus.log" prometheus --config.file "$dir/prometheus.yml" --storage.tsdb.path "$dir/tsdb" \
  --web.listen-address "127.0.0.1:$port" --log.level warn

# Not in the foreground, so that a signal ends this script at once.
HOSTS=$hosts DOMAINS=$domains INTERVAL=$interval EVALUATION=$evaluation MINUTES=$minutes BEFORE=$before AFTER=$after PHASE=$phase ROUNDS=$rounds \
  /usr/bin/python3 "$here/support/fleet.py" "http://127.0.0.1:$port" "$dir" "$here/../dashboards/libvirt-fleet.json" &
if ! wait $!; then
  tail -n 20 "$dir/prometheus.log" >&2
  exit 1
fi
