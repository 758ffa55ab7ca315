#!/bin/bash
# Boots a Debian with real systemd in a container, runs one script in it as root, prints its output, returns its exit code.
#
#   boot.sh SCRIPT [FILE=PATH...]   each FILE is put at PATH in the container first
#   boot.sh --check                 prints why that cannot be done here, and fails; or prints nothing
#   boot.sh --prepare               only makes the Debian
#
# The Debian is of this machine's suite (what was built here runs there) or LAB_SUITE, made once a machine (see suite.sh) with systemd,
# D-Bus, polkit and libvirt, and only ever read: each container has an overlay of its own in memory, a network of its own,
# and boots in two to three seconds. Needs root and the right to mount.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(realpath "$0")")
packages=(systemd systemd-sysv libnss-systemd procps dbus polkitd libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients curl rpm)
# More of them, for one test: a tree of its own.
read -ra more <<<"${LAB_PACKAGES:-}"

suite=${LAB_SUITE:-$(. /etc/os-release && if [ "$ID" = debian ]; then echo "${VERSION_CODENAME:-}"; fi)}
obstacle() {
  if [ "$EUID" != 0 ]; then echo "booting a container needs root"
  elif ! can_mount; then echo "booting a container needs the right to mount (CAP_SYS_ADMIN)"
  elif [ -z "$suite" ]; then echo "this machine is no release of Debian, of which a tree could be made"
  elif ! command -v systemd-nspawn >/dev/null; then echo "systemd-nspawn is missing: install the Debian package systemd-container"
  elif ! command -v debootstrap >/dev/null; then echo "debootstrap is missing: install the Debian package debootstrap"
  fi
}
why=$(obstacle)
[ "${1:-}" != --check ] || { echo "$why"; [ -z "$why" ]; exit; }
[ -z "$why" ] || die "$why"
[ $# -ge 1 ] || die "usage: boot.sh SCRIPT [FILE=PATH...] | --check | --prepare"
# In a mount namespace of its own: what is mounted here ends with this, however it ends.
[ -n "${BOOT_INSIDE:-}" ] || exec env BOOT_INSIDE=1 unshare --mount --propagation private "$0" "$@"
script=$1; shift
limit=${LAB_TIMEOUT:-600} # seconds, for the script

name=$suite-systemd${more[*]:+-$(IFS=-; echo "${more[*]}")}
tree=$("$here/suite.sh" chroot "$name" "$suite" "${packages[@]}" "${more[@]}")
[ "$script" != --prepare ] || exit 0
work=$(mktemp -d "${TMPDIR:-/tmp}/boot.XXXXXX")
trap 'umount --lazy "$work" 2>/dev/null || true; rmdir "$work" 2>/dev/null || true' EXIT
mount -t tmpfs -o size=2G,mode=755 "boot:$work" "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay "boot:$work" -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
rm -f "$root/usr/sbin/policy-rc.d" # in here, packages may start their services
for file in "$@"; do install -D -m 644 "${file%%=*}" "$root/${file#*=}"; done
install -m 755 "$script" "$root/lab-script"
# Nothing is started but what every boot starts, and what the script starts itself.
cat >"$root/etc/systemd/system/lab.target" <<'U'
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
U
cat >"$root/etc/systemd/system/lab-script.service" <<U
[Unit]
After=basic.target dbus.socket
Wants=dbus.socket
[Service]
Type=oneshot
TimeoutStartSec=$limit
StandardOutput=file:/lab-output
StandardError=file:/lab-output
ExecStart=/bin/bash -c '/lab-script; echo \$? >/lab-code; systemctl --no-block exit 0'
U
mkdir "$root/etc/systemd/system/lab.target.wants"
ln -s ../lab-script.service "$root/etc/systemd/system/lab.target.wants/"
timeout --kill-after=10 "$((limit + 60))" systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network --link-journal=no \
  --console=read-only --boot systemd.unit=lab.target </dev/null >"$work/console" 2>&1 || true
[ -f "$root/lab-code" ] || { say "the container did not come to an end:"; tail -n 30 "$work/console" >&2; cat "$root/lab-output" >&2 || true; exit 1; }
cat "$root/lab-output"
exit "$(cat "$root/lab-code")"
