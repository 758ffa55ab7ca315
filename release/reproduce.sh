#!/bin/bash
# Whether the last commit gives the same bytes again: builds the Debian package, the rpm and the tarball in two clones, in folders of
# different names and without anything that was built before, and compares.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/reproduce.XXXXXX")
trap 'rm -rf "$work"' EXIT
for clone in first the-second-one; do
  git clone --quiet "$root" "$work/$clone"
  for part in deb rpm tarball; do
    env -u CARGO_TARGET_DIR "$work/$clone/release/$part.sh" "$work/$clone/dist" >/dev/null
  done
done
differ=0
for file in "$work/first/dist"/*; do
  if cmp --silent "$file" "$work/the-second-one/dist/${file##*/}"; then
    say "same: ${file##*/}"
  else
    say "DIFFERS: ${file##*/}"
    differ=1
  fi
done
exit "$differ"
