#!/bin/bash
# The Ansible role under real systemd: from the package and from the tarball, each twice, of which the second changes nothing.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
why=$(tests/lab/boot.sh --check) || { say "$why"; exit 3; }
if command -v ansible-lint >/dev/null; then (cd packaging/ansible && ansible-lint --offline --strict domstats_exporter); else say "ansible-lint is missing: not linted"; fi
package=$(find target/dist -name 'domstats-exporter_*.deb' 2>/dev/null | head -n 1)
[ -n "$package" ] || { release/deb.sh target/dist; package=$(find target/dist -name 'domstats-exporter_*.deb' | head -n 1); }
tarball=$(find target/dist -name 'domstats-exporter-*-linux-gnu.tar.gz' | head -n 1)
[ -n "$tarball" ] || tarball=$(release/tarball.sh target/dist)
role=$(mktemp)
trap 'rm -f "$role"' EXIT
tar --create --file "$role" --directory packaging/ansible domstats_exporter
LAB_TIMEOUT=1200 LAB_PACKAGES="ansible-core openssl python3-apt" tests/lab/boot.sh "$here/role-inside.sh" tests/systemd/lib.sh=/root/lib.sh \
  "$role=/root/role.tar" "$package=/root/domstats-exporter.deb" "$tarball=/root/domstats-exporter.tar.gz"
