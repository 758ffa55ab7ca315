#!/bin/bash
# The Debian package, and the one with its debug symbols: deb.sh FOLDER [TARGET] writes them into FOLDER.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -ge 1 ] || die "usage: deb.sh FOLDER [TARGET]"
folder=$1 target=${2:-}
mkdir -p "$folder"
release/build.sh ${target:+"$target"} >/dev/null
manual
cargo deb --locked --quiet --no-build --dbgsym --fast ${target:+--target "$target"} --output "$folder/"
