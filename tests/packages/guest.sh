#!/bin/bash
# The released deb and rpm on a host with a real guest, under systemd: installed, scraped, upgraded to the next release, removed.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
why=$(tests/lab/boot.sh --check) || { say "$why"; exit 3; }
for program in rpmbuild objcopy dpkg-deb; do command -v "$program" >/dev/null || { say "$program is missing"; exit 3; }; done
deb=$(find target/dist -name 'domstats-exporter_*.deb' 2>/dev/null | head -n 1)
[ -n "$deb" ] || { release/deb.sh target/dist; deb=$(find target/dist -name 'domstats-exporter_*.deb' | head -n 1); }
rpm=$(find target/dist -name 'domstats-exporter-*.rpm' | head -n 1)
[ -n "$rpm" ] || rpm=$(release/rpm.sh target/dist)
# The next release: the same program under another revision.
next=$(mktemp -d)
trap 'rm -rf "$next"' EXIT
dpkg-deb --raw-extract "$deb" "$next/tree"
sed -i 's/^\(Version: .*\)-1$/\1-2/' "$next/tree/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip --build "$next/tree" "$next/next.deb" >/dev/null
packaging/rpm/build.sh "$next/tree/usr/bin/domstats-exporter" 2 "$next" >/dev/null
LAB_PACKAGES=qemu-system-x86 tests/lab/boot.sh "$here/guest-inside.sh" tests/systemd/lib.sh=/root/lib.sh \
  "$deb=/root/first.deb" "$next/next.deb=/root/next.deb" "$rpm=/root/first.rpm" "$(echo "$next"/*.rpm)=/root/next.rpm"
