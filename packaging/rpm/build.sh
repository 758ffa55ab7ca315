#!/bin/bash
# The rpm of a program that is built already: build.sh PROGRAM RELEASE FOLDER writes it into FOLDER and prints its path.
#
# The manual is in target/manual (cargo run --example manual). SOURCE_DATE_EPOCH is the time of everything in the package.
set -euo pipefail
[ $# = 3 ] || { echo "usage: build.sh PROGRAM RELEASE FOLDER" >&2; exit 2; }
program=$(realpath "$1") release=$2 folder=$(realpath "$3")
root=$(realpath "$(dirname "$0")/../..")
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
work=$(mktemp -d "${TMPDIR:-/tmp}/rpm.XXXXXX")
trap 'rm -rf "$work"' EXIT
objcopy --strip-all --remove-section=.comment "$program" "$work/program"
rpmbuild --quiet -bb --define "_topdir $work" --define "sources $root" --define "program $work/program" \
  --define "program_version $version" --define "program_release $release" "$root/packaging/rpm/domstats-exporter.spec" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; exit 1; }
for built in "$work"/RPMS/*/*.rpm; do
  mv "$built" "$folder/"
  echo "$folder/${built##*/}"
done
