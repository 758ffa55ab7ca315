#!/bin/bash
# The Debian package on other releases, or on those that are named: what it depends on is asked of dpkg and of the program itself, and
# where dpkg takes it, it scrapes a real guest of this machine's libvirt with the release's own client library.
#
# Debian's are those that this machine's mirror has; UBUNTU_MIRROR names one that has jammy and noble.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
cd "$(dirname "$(realpath "$0")")/../.."
can_mount || { say "this needs root and the right to mount"; exit 3; }
for program in debootstrap objdump qemu-img; do command -v "$program" >/dev/null || { say "$program is missing"; exit 3; }; done
package=$(find target/dist -name 'domstats-exporter_*.deb' 2>/dev/null | head -n 1)
[ -n "$package" ] || { release/deb.sh target/dist; package=$(find target/dist -name 'domstats-exporter_*.deb' | head -n 1); }
suites=(bullseye bookworm trixie sid)
[ -z "${UBUNTU_MIRROR:-}" ] || suites+=(jammy noble)
[ $# = 0 ] || suites=("$@")

work=$(mktemp -d /tmp/suites.XXXXXX)
cleanup() { tests/lab/libvirtd.sh stop "$work/lab" || true; rm -rf --one-file-system "$work"; }
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
mkdir "$work/package"
dpkg-deb --extract "$package" "$work/package"
# The newest symbol of a library that the program uses.
newest() { objdump -T "$work/package/usr/bin/domstats-exporter" | sed -n "s/.*[ (]$1_\([0-9.]*\).*/\1/p" | sort --version-sort --unique | tail -n 1; }
depends=$(dpkg-deb --field "$package" Depends)
say "the program needs glibc $(newest GLIBC) and libvirt $(newest LIBVIRT); the package: $depends"
# Debian's list of libvirt's symbols has for each the first release that Debian packaged.
asked() { sed -n "s/.*$1 (>= \([^)]*\)).*/\1/p" <<<"$depends"; }
if ! dpkg --compare-versions "$(asked libc6)" eq "$(newest GLIBC)" || ! dpkg --compare-versions "$(asked libvirt0)" ge "$(newest LIBVIRT)"; then
  die "the package asks for something else"
fi
LAB_OWNER=$$ tests/lab/libvirtd.sh start "$work/lab" >/dev/null
guest=$(tests/lab/guests.sh "$work/lab" web)

# in_suite TREE COMMAND: with the package and the lab's sockets, in an overlay that is gone afterwards
in_suite() {
  # shellcheck disable=SC2016 # the inner shell expands these
  unshare --mount --propagation private bash -euc '
    mount -t tmpfs package "$2/ns"
    mkdir "$2"/ns/{upper,work,root}
    root=$2/ns/root
    mount -t overlay package -o "lowerdir=$1,upperdir=$2/ns/upper,workdir=$2/ns/work" "$root"
    mount --rbind /proc "$root/proc"
    mkdir -p "$root/run/libvirt" "$root/newer"
    mount --rbind "$2/lab/sock" "$root/run/libvirt"
    mount --bind "$2/newer" "$root/newer"
    cp "$3" "$root/package.deb"
    DEBIAN_FRONTEND=noninteractive chroot "$root" bash -euc "$4"' bash "$1" "$work" "$package" "$2" 2>&1 || true
}
# This machine's C library, for bullseye.
mkdir "$work/ns" "$work/newer"
dpkg-query --listfiles libc6 | sed -n '/^\/lib\/[^/]*\/[^/]*\.so\.[0-9]*$/p' | xargs cp --dereference --target-directory "$work/newer"

failed=0
scraped() {
  if [[ $2 == *$'\nlibvirt_up 1\n'* && $2 == *"domain=\"$guest\""* ]]; then
    say "$1: $(sed -n 's/^libvirt_version_info{library="\([^"]*\)".*/libvirt \1/p' <<<"$2"), $(grep -c "domain=\"$guest\"" <<<"$2") samples of a guest"
  else
    say "$1: $(grep -E 'depends|Depends|GLIBC|not found|exporter: ' <<<"$2" | head -n 3)"
    failed=1
  fi
}
for suite in "${suites[@]}"; do
  case $suite in jammy | noble) export LAB_MIRROR=$UBUNTU_MIRROR ;; esac
  tree=$(tests/lab/suite.sh chroot "$suite-package" "$suite" libvirt0 libnss-systemd procps ca-certificates) ||
    { say "$suite: not on this machine's mirror"; continue; }
  if [ "$suite" != bullseye ]; then
    scraped "$suite" "$(in_suite "$tree" 'dpkg --install /package.deb; domstats-exporter scrape --libvirt.uri=qemu:///system')"
    continue
  fi
  # Its C library is older than the one that the package was built on, and that is all: beside a newer one its libvirt will do.
  unmet=$(in_suite "$tree" 'dpkg --install /package.deb' | sed -n 's/.* depends on \([^ ]*\).*/\1/p' | xargs)
  [ "$unmet" = libc6 ] || { say "$suite: dpkg asks for '$unmet'"; failed=1; }
  said=$(in_suite "$tree" 'dpkg --extract /package.deb /package
    /newer/ld-linux-x86-64.so.2 --library-path /newer:/usr/lib/x86_64-linux-gnu /package/usr/bin/domstats-exporter scrape --libvirt.uri=qemu:///system')
  scraped "$suite, refused for its C library; beside a newer one" "$said"
done
[ "$failed" = 0 ]
