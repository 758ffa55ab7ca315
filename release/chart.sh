#!/bin/bash
# The Helm chart, with the files that it links to: chart.sh FOLDER writes it into FOLDER.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: chart.sh FOLDER"
mkdir -p "$1"
helm=$(command -v helm || tests/lab/gotool.sh helm)
"$helm" package --destination "$1" packaging/helm/domstats-exporter 2>/dev/null >&2
mv "$1/domstats-exporter-$version.tgz" "$1/domstats-exporter-$version-helm.tgz"
echo "$1/domstats-exporter-$version-helm.tgz"
