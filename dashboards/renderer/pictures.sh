#!/bin/bash
# make dashboards-png: draws the dashboards from a Prometheus with real guests, into dashboards/pictures (not committed).
#
# Starts what tests/dashboards_live.rs starts, lets Prometheus scrape for some minutes, and has Grafana's own component
# library draw what the dashboards ask. Needs npm, node 20 and chromium, and 500 MB for the npm packages, once.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
need() { command -v "$1" >/dev/null || { echo "$1 is missing; install the Debian package $2" >&2; exit 1; }; }
need npm npm
need chromium chromium
cd "$here/../.."
if [ "${1:-}" != draw ]; then
  [ -d "$here/node_modules" ] || npm --prefix "$here" install --legacy-peer-deps --no-package-lock --no-audit --no-fund --ignore-scripts
  node "$here/node_modules/esbuild/install.js"
  DASHBOARDS_SECONDS=${DASHBOARDS_SECONDS:-600} DASHBOARDS_THEN="$here/pictures.sh draw" exec \
    cargo test --locked --test dashboards_live -- --nocapture
fi

# The domain of the guest with this name in OpenStack.
find_domain() {
  # shellcheck disable=SC2016 # JavaScript expands it
  curl --silent --fail --data-urlencode "query=libvirt_domain_info{instance_name=\"$1\",instance=~\"compute.*\"}" "$PROMETHEUS/api/v1/query" |
    node -e 'console.log(JSON.parse(require("fs").readFileSync(0)).data.result[0].metric.domain)'
}
mkdir -p "$here/../pictures"
real='instance=compute-[123]'
RENDERER_MINUTES=${RENDERER_MINUTES:-4} node "$here/render.mjs" "$PROMETHEUS" "$here/../pictures" \
  "libvirt-fleet|$real" "libvirt-host|instance=compute-1|Jobs over time,Limits against use,Pressure,Snapshots and checkpoints,File systems of the guests,Storage pools and networks" \
  "libvirt-domain|instance=compute-1,domain=$(find_domain store)|Limits against use,Snapshots and backing chain" "libvirt-exporter|$real" \
  "libvirt-openstack|$real" "libvirt-kubevirt|$real"
