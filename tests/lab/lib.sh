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
