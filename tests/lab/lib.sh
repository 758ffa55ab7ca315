# shellcheck shell=bash
# What the lab's scripts share. Sourced, not run.
set -euo pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }
die() { printf 'lab: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing; install the Debian package $2 (tests/lab/install.sh does)"; }

# Whether this user may mount: root with CAP_SYS_ADMIN, which root in an ordinary container is not.
can_mount() { [ "$EUID" = 0 ] && unshare --mount --propagation private true 2>/dev/null; }

# virsh on the daemon of a lab folder.
lab_virsh() { local dir=$1; shift; virsh --quiet --connect "$(cat "$dir/uri")" "$@"; }

# The processes of the daemon of a lab folder: libvirtd, its QEMUs, and whatever they started. A private mount namespace is
# known by the source name of a mount in it, a session daemon by its environment; both are inherited, so that no process
# escapes, and no process of anyone else is ever meant.
lab_processes() {
  local dir=$1 pid
  { grep -lF " lab:$dir " /proc/[0-9]*/mountinfo || true; grep -lzF "=$dir/fs/" /proc/[0-9]*/environ || true; } 2>/dev/null |
    cut -d/ -f3 | sort -un | while read -r pid; do [ "$pid" = "$$" ] || [ "$pid" = "$BASHPID" ] || echo "$pid"; done
}

# The Debian mirror of this machine's own sources, in whatever format they are; LAB_MIRROR overrides.
mirror() {
  # shellcheck disable=SC2016 # these are apt's own variables
  local format='$(LABEL)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)' pick='
    $1 == "Debian" && $2 == "main" && $3 !~ /-(updates|backports|security|proposed)/ { print $4; exit }'
  local found=${LAB_MIRROR:-$(apt-get indextargets --format "$format" 'Identifier: Packages' | awk -F'|' "$pick")}
  if [ -z "$found" ]; then # the label is known once the package lists have been fetched
    apt-get -qq update >&2 || true
    found=$(apt-get indextargets --format "$format" 'Identifier: Packages' | awk -F'|' "$pick")
  fi
  [ -n "$found" ] || die "no Debian mirror in this machine's apt sources; set LAB_MIRROR to one"
  echo "$found"
}

# Where things are kept that are made or fetched once a machine.
lab_cache() {
  local cache=${LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/domstats-exporter/lab}
  mkdir -p "$cache"
  realpath "$cache"
}
