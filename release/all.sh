#!/bin/bash
# Everything of a release into target/dist, with SHA256SUMS. What this machine cannot make is named, and fails it unless
# RELEASE_PARTIAL is set.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
dist=target/dist missing=()
rm -rf "$dist"
mkdir -p "$dist"
# The image is made of the package.
for part in deb rpm tarball chart sbom image; do
  say "release: $part"
  "release/$part.sh" "$dist" >/dev/null || missing+=("$part")
done
(cd "$dist" && sha256sum -- * >SHA256SUMS.part && mv SHA256SUMS.part SHA256SUMS)
(cd "$dist" && ls -l)
[ ${#missing[@]} = 0 ] || { say "release: not made: ${missing[*]}"; [ -n "${RELEASE_PARTIAL:-}" ]; }
