#!/bin/bash
# A program written in Go that no Debian package has: gotool.sh NAME prints its path.
#
# Built once a machine from Go's module proxy, below LAB_CACHE (see lib.sh). Exits with 3 where there is no Go, or no module.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
declare -A modules=(
  [actionlint]=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
  [helm]=helm.sh/helm/v3/cmd/helm@v3.22.0
  [kubeconform]=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
  [kustomize]=sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
)
name=${1:-}
module=${modules[$name]:-}
[ -n "$module" ] || die "usage: gotool.sh ${!modules[*]}"
folder=$(lab_cache)/go-${module##*@}
program=$folder/$name
mkdir -p "$folder"
# Two tests may want it at once: the second waits for the first.
exec 9>"$program.lock"
flock 9
if [ ! -x "$program" ]; then
  command -v go >/dev/null || { say "no Go to build $name with"; exit 3; }
  say "lab: building $module (once)"
  if ! GOBIN=$folder GOFLAGS="${GOFLAGS:-} -trimpath" CGO_ENABLED=0 go install "$module" >"$program.log" 2>&1 9>&-; then
    tail -n 5 "$program.log" >&2
    exit 3
  fi
  rm -f "$program.log"
fi
echo "$program"
