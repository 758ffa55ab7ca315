#!/bin/bash
# What each group of statistics costs: series, bytes and time for N real guests, as docs/scaling.md has it: benches/groups.sh [N]
#
# The guests have no limits, no jobs and no snapshots, and no agent; what belongs to the host or its objects is not shown.
# EXPORTER names another build. Needs root and some 45 MB of memory a guest.
count=${1:-40} more=(pressure limits)
# shellcheck source=benches/support/guests.sh
. "$(dirname "$0")/support/guests.sh"

# row NAME QUERY: series, bytes of text, bytes gzipped a guest; milliseconds a guest, the median of 15 scrapes
row() {
  local query="$url?$2" series text packed time
  curl -sgf -o "$dir/metrics" "$query"
  series=$(grep -c '^libvirt_domain_' "$dir/metrics")
  text=$(grep '^libvirt_domain_' "$dir/metrics" | wc -c)
  packed=$(curl -sgf -H 'Accept-Encoding: gzip' "$query" | wc -c)
  time=$(for _ in {1..15}; do curl -sgf -o /dev/null -w '%{time_total}\n' "$query"; done | sort -n | sed -n 8p)
  awk -v name="$1" -v n="$count" -v s="$series" -v b="$text" -v z="$packed" -v t="$time" \
    'BEGIN { printf "| %s | %.1f | %d | %d | %.2f |\n", name, s / n, b / n, z / n, 1000 * t / n }'
}
echo "| group | series | bytes | gzipped | ms |"
echo "|---|---|---|---|---|"
for group in "${groups[@]}"; do row "$group" "collect[]=$group"; done
row "all by default" "exclude[]=vcpu_kvm"
row "all" ""
