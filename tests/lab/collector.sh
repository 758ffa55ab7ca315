#!/bin/bash
# An OpenTelemetry Collector with what the tests need of it: prints the path of the program.
#
# Made once a machine by the Collector's own builder, below LAB_CACHE (see suite.sh), out of modules from Go's module proxy;
# delete it to have it made again. Needs Go; without one it prints nothing and exits with 3.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
version=0.165.0
command -v go >/dev/null || exit 3

program=$(lab_cache)/otelcol-$version
# Two tests may want it at once: the second waits for the first.
exec 9>"$program.lock"
flock 9
if [ ! -x "$program" ]; then
  say "lab: building an OpenTelemetry Collector $version (once; some minutes)"
  work=$(mktemp -d "${TMPDIR:-/tmp}/otelcol.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  contrib=github.com/open-telemetry/opentelemetry-collector-contrib core=go.opentelemetry.io/collector
  cat >"$work/builder.yaml" <<Y
dist: {name: otelcol, output_path: $work/out}
receivers:
  - gomod: $core/receiver/otlpreceiver v$version
processors:
  - gomod: $core/processor/memorylimiterprocessor v$version
exporters:
  - gomod: $contrib/exporter/prometheusexporter v$version
extensions:
  - gomod: $contrib/extension/bearertokenauthextension v$version
Y
  if ! go run "$core/cmd/builder@v$version" --config "$work/builder.yaml" >"$program.log" 2>&1 9>&-; then
    tail -n 10 "$program.log" >&2
    die "the Collector cannot be built; the whole log is $program.log"
  fi
  rm -f "$program.log"
  mv "$work/out/otelcol" "$program"
fi
exec 9>&-
echo "$program"
