# shellcheck shell=bash
# What the scripts in the container share (see tests/lab/boot.sh). Sourced.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
unit=domstats-exporter.service
config=/etc/domstats-exporter/config.yaml

fail() {
  echo "FAILED: $*"
  systemctl status --no-pager --lines=30 "$unit" || true
  exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

path=/metrics
scrape() { curl --silent --show-error --fail --max-time 60 "http://localhost:9177$path"; }
value() { scrape | awk -v name="$1" '$1 == name { print $2 }'; }
property() { systemctl show --property="$1" --value "$unit"; }
is() { [ "$2" = "$3" ] || fail "$1 is '$2' instead of '$3'"; }

# eventually WHAT IS COMMAND...: until the command prints IS, at most a minute
eventually() {
  local what=$1 is=$2 got=; shift 2
  for _ in {1..600}; do
    got=$("$@" 2>/dev/null) || true
    [ "$got" != "$is" ] || return 0
    sleep 0.1
  done
  fail "$what is '$got' instead of '$is'"
}

# configure LINE...: the settings of the service
configure() { printf '%s\n' "$@" >"$config"; }
# drop_in LINE...: of the service, and of no other test
drop_in() {
  mkdir -p "/etc/systemd/system/$unit.d"
  printf '%s\n' "$@" >"/etc/systemd/system/$unit.d/test.conf"
  systemctl daemon-reload
}
