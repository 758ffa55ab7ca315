#!/bin/bash
# The release of a tag, from what release.yml has built: publish.sh TAG FOLDER... checks tag, version and changelog, puts the folders
# together in target/published with one SHA256SUMS, and, with GH_TOKEN, makes the release of it.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -ge 2 ] || die "usage: publish.sh TAG FOLDER..."
tag=$1; shift
[ "$tag" = "v$version" ] || die "the tag is $tag, and the version in Cargo.toml $version"
grep -qE "^## \[$version\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md || die "CHANGELOG.md has no dated section of $version"
published=target/published
rm -rf "$published"
mkdir -p "$published"
for folder in "$@"; do
  (cd "$folder" && sha256sum --quiet --check SHA256SUMS)
  # What is the same for all architectures is in each of them; the first one counts.
  cp --no-clobber "$folder"/* "$published/"
done
rm "$published/SHA256SUMS"
(cd "$published" && sha256sum -- * >SHA256SUMS.part && mv SHA256SUMS.part SHA256SUMS)
awk -v section="## [$version]" 'index($0, "## ") == 1 { on = index($0, section) == 1; next } on' CHANGELOG.md >target/notes.md
printf '\nBuilt with %s.\n' "$(rustc --version)" >>target/notes.md
if [ -n "${GH_TOKEN:-}" ]; then
  gh release create "$tag" --verify-tag --title "$version" --notes-file target/notes.md "$published"/*
else
  say "release: no GH_TOKEN; what would be released is in $published, its notes are target/notes.md"
fi
