#!/bin/bash
# A Prometheus 3, for its OTLP receiver: prints the path of the program.
#
# Built once a machine, below LAB_CACHE (see suite.sh), out of modules from Go's module proxy; delete it to have it built again.
# Needs Go; without one it prints nothing and exits with 3.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
version=0.316.0 # the module's number of Prometheus 3.16.0

program=$(lab_cache)/prometheus-$version
# Two tests may want it at once: the second waits for the first.
exec 9>"$program.lock"
flock 9
if [ ! -x "$program" ]; then
  command -v go >/dev/null || exit 3
  say "lab: building Prometheus $version (once; some minutes)"
  work=$(mktemp -d "${TMPDIR:-/tmp}/prometheus.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  build() {
    cd "$work"
    go mod init lab && go get "github.com/prometheus/prometheus/cmd/prometheus@v$version" &&
      CGO_ENABLED=0 go build -tags remove_all_sd -o "$work/prometheus" github.com/prometheus/prometheus/cmd/prometheus
  }
  if ! (build) >"$program.log" 2>&1 9>&-; then
    tail -n 10 "$program.log" >&2
    die "Prometheus cannot be built; the whole log is $program.log"
  fi
  rm -f "$program.log"
  mv "$work/prometheus" "$program"
fi
exec 9>&-
echo "$program"
