#!/bin/bash
# An OTLP receiver of other people's making: Python's gRPC and OpenTelemetry's own protobuf types (otlp-receiver.py).
#
#   otlp-receiver.sh    listens on free ports of the loopback interface, over HTTP and gRPC; prints a line of JSON with the
#                       ports and then one for each request, until it is killed
#
# The packages are fetched from PyPI once a machine, into a venv below LAB_CACHE (see suite.sh); delete it to have it made again.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(realpath "$0")")
packages="grpcio==1.85.0 opentelemetry-proto==1.45.0"
need python3 python3

folder=$(lab_cache)/otlp-python
# Two tests may want it at once: the second waits for the first.
exec 9>"$folder.lock"
flock 9
if [ ! -d "$folder" ]; then
  say "lab: installing $packages from PyPI (once)"
  rm -rf --one-file-system "$folder.part"
  python3 -m venv "$folder.part" >&2 || die "python3 cannot make a venv; install the Debian package python3-venv"
  # shellcheck disable=SC2086 # a list
  if ! "$folder.part/bin/pip" --quiet --disable-pip-version-check install $packages >"$folder.log" 2>&1; then
    tail -n 10 "$folder.log" >&2
    die "pip cannot install $packages; the whole log is $folder.log"
  fi
  mv "$folder.part" "$folder"
fi
exec 9>&-
exec "$folder/bin/python3" "$here/otlp-receiver.py"
