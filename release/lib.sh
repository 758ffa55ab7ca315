# shellcheck shell=bash
# What the scripts here share. Sourced, not run.
set -euo pipefail
export LC_ALL=C.UTF-8
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
cd "$root"
say() { printf '%s\n' "$*" >&2; }
die() { printf 'release: %s\n' "$*" >&2; exit 1; }
# shellcheck disable=SC2034 # for those who source this
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# The time of everything in a package: that of the commit, or, of sources without git, of the file with the version.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat --format=%Y Cargo.toml)}
export SOURCE_DATE_EPOCH
# The commit, for libvirt_exporter_build_info.
DOMSTATS_EXPORTER_REVISION=${DOMSTATS_EXPORTER_REVISION:-$(git describe --always --abbrev=40 --exclude='*' --dirty=-modified 2>/dev/null || true)}
export DOMSTATS_EXPORTER_REVISION
# The manual pages, completions, pages of the documentation and licences in target/manual, and nothing of an earlier commit there.
manual() { rm -rf target/manual; cargo run --quiet --locked --example manual -- target/manual; }
target_folder() { cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'; }
host() { rustc --print host-tuple 2>/dev/null || rustc -vV | sed -n 's/^host: //p'; }
