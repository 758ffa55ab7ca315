#!/bin/bash
# Makes what tests take from outside once a machine, in the order in which they ask for it: prepare.sh OWNER. The end of the process
# OWNER is its end, after what it is at.
#
# It leaves nearly all of the CPU time to others. A test that comes to it earlier waits for it; what cannot be made here, that test makes
# itself, or says why not.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")"
[ $# = 1 ] || die "usage: prepare.sh OWNER"
renice -n 10 $$ >/dev/null
while read -ra command; do
  kill -0 "$1" 2>/dev/null || exit 0
  "./${command[0]}" "${command[@]:1}" </dev/null || true
done <<'C'
suite.sh prepare sid
gotool.sh helm
gotool.sh kubeconform
gotool.sh kustomize
kubernetes-schemas.sh
collector.sh
fetch.sh trixie victoria-metrics
fetch.sh sid prometheus
suite.sh prepare trixie
gotool.sh actionlint
boot.sh --prepare
C
