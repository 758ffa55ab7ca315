#!/bin/bash
# Programs of another Debian suite, unpacked and not installed: for tests against versions that this machine has no package of.
#
#   fetch.sh SUITE PACKAGE...    prints the folder that holds the packages' files (FOLDER/usr/bin/...)
#
# @PACKAGE is what a package of no files stands for: the first that it depends on.
#
# Fetched once a machine, below LAB_CACHE (see suite.sh); delete the folder to have it fetched again. Neither the machine's
# packages nor its lists of packages are touched. Dependencies are not fetched: what is wanted has to run with what is here.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -ge 2 ] || die "usage: fetch.sh SUITE PACKAGE..."
need apt-get apt
need dpkg-deb dpkg
suite=$1; shift
name=$(printf '%s-' "$suite" "$@")
folder=$(lab_cache)/${name%-}

# Two tests may want the same at once: the second waits for the first.
exec 9>"$folder.lock"
flock 9
if [ -d "$folder" ]; then
  echo "$folder"
  exit 0
fi
url=$(mirror)
say "lab: fetching $* of Debian $suite (once)"
work=$(mktemp -d "${TMPDIR:-/tmp}/fetch.XXXXXX")
trap 'rm -rf --one-file-system "$work" "$folder.part"' EXIT
mkdir -p "$work"/{lists,cache,debs} "$folder.part"
echo "deb $url $suite main" >"$work/sources.list"
# An apt of its own: its sources, lists and state, but the machine's keys and whatever it needs to reach its mirror.
cat >"$work/apt.conf" <<X
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/lists";
Dir::State::status "/dev/null";
Dir::Cache "$work/cache";
Acquire::Languages "none";
APT::Sandbox::User "";
X
export APT_CONFIG=$work/apt.conf
# Names what is to be downloaded.
names() {
  local package
  for package in "$@"; do
    case $package in
      @*) apt-cache depends "${package#@}" | awk '$1 == "Depends:" { print $2; exit }' ;;
      *) echo "$package" ;;
    esac
  done
}
# shellcheck disable=SC2046 # names are without spaces
if ! (cd "$work/debs" && apt-get -qq update && apt-get -qq download $(names "$@")) >"$work/log" 2>&1; then
  tail -n 10 "$work/log" >&2
  die "cannot fetch $* of Debian $suite from $url"
fi
for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$folder.part"; done
mv "$folder.part" "$folder"
echo "$folder"
