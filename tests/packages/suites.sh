#!/bin/bash
# The Debian package on other releases, or on those that are named: installed, started on libvirt's test driver, with what its library says of itself.
#
# Debian's are those that this machine's mirror has; UBUNTU_MIRROR names one that has jammy and noble.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
cd "$(dirname "$(realpath "$0")")/../.."
can_mount || { say "this needs root and the right to mount"; exit 3; }
command -v debootstrap >/dev/null || { say "debootstrap is missing"; exit 3; }
package=$(find target/dist -name 'domstats-exporter_*.deb' 2>/dev/null | head -n 1)
[ -n "$package" ] || { release/deb.sh target/dist; package=$(find target/dist -name 'domstats-exporter_*.deb' | head -n 1); }
suites=(bullseye bookworm trixie sid)
[ -z "${UBUNTU_MIRROR:-}" ] || suites+=(jammy noble)
[ $# = 0 ] || suites=("$@")
failed=0
for suite in "${suites[@]}"; do
  case $suite in jammy | noble) export LAB_MIRROR=$UBUNTU_MIRROR ;; esac
  tree=$(tests/lab/suite.sh chroot "$suite-package" "$suite" libvirt0 libnss-systemd procps ca-certificates) ||
    { say "$suite: not on this machine's mirror"; continue; }
  # shellcheck disable=SC2016 # the inner shell expands these
  said=$(unshare --mount --propagation private bash -euc '
    tree=$1 work=$(mktemp -d) # the tmpfs hides it again
    mount -t tmpfs package "$work"
    mkdir "$work"/{upper,work,root}
    mount -t overlay package -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" "$work/root"
    mount --rbind /proc "$work/root/proc"
    cp "$2" "$work/root/package.deb"
    DEBIAN_FRONTEND=noninteractive chroot "$work/root" dpkg --install /package.deb
    chroot "$work/root" domstats-exporter scrape --libvirt.uri=test:///default' bash "$tree" "$package" 2>&1) || true
  if [[ $said == *$'\nlibvirt_up 1\n'* ]]; then
    say "$suite: $(sed -n 's/^libvirt_version_info{library="\([^"]*\)".*/works with libvirt \1/p' <<<"$said")"
  else
    say "$suite: $(grep -E 'depends|Depends|GLIBC|not found|exporter: ' <<<"$said" | head -n 3)"
    # Debian 11 has an older C library than the package was built on.
    [ "$suite" = bullseye ] || failed=1
  fi
done
exit "$failed"
