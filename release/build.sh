#!/bin/bash
# The program as it is released: build.sh [TARGET] builds it and prints its path.
#
# No path of this machine is in it: the same sources, dependencies and compiler give the same bytes in every folder.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
target=${1:-}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
# The last one that fits counts, and the folder of the sources may be in one of the others.
printf -v CARGO_ENCODED_RUSTFLAGS '%s\x1f%s\x1f%s' "--remap-path-prefix=$(rustc --print sysroot)=/rust" \
  "--remap-path-prefix=$cargo_home=/cargo" "--remap-path-prefix=$root=/source"
export CARGO_ENCODED_RUSTFLAGS
export CFLAGS="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$root=/source -gno-record-gcc-switches"
arguments=(--release --locked --package domstats-exporter)
[ -z "$target" ] || arguments+=(--target "$target")
cargo build --quiet "${arguments[@]}"
echo "$(target_folder)/${target:+$target/}release/domstats-exporter"
