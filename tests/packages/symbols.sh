#!/bin/bash
# The package with the debug symbols belongs to the program in the other package, and names lines of the sources, without a path of the
# machine that built them.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
cd "$(dirname "$(realpath "$0")")/../.."
symbols=$(find target/dist -name 'domstats-exporter-dbgsym_*' 2>/dev/null | head -n 1)
[ -n "$symbols" ] || { release/deb.sh target/dist; symbols=$(find target/dist -name 'domstats-exporter-dbgsym_*' | head -n 1); }
package=$(find target/dist -name 'domstats-exporter_*.deb' | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb --extract "$package" "$work/program"
dpkg-deb --extract "$symbols" "$work/symbols"
program=$work/program/usr/bin/domstats-exporter
id=$(readelf --notes "$program" | sed -n 's/.*Build ID: //p')
[ -n "$id" ] || die "the program has no build ID"
debug=$work/symbols/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug
[ -f "$debug" ] || die "no symbols of the build $id: $(find "$work/symbols" -type f | tr '\n' ' ')"
address=$(nm --demangle "$debug" | awk '$3 ~ /^domstats_exporter::main/ && !found++ { print $1 }')
[ -n "$address" ] || die "no symbol of main"
line=$(addr2line -e "$debug" "$address")
[[ $line == *src/main.rs:[0-9]* ]] || die "main is at $line"
[[ $line != *"$PWD"* ]] || die "the symbols name a folder of this machine: $line"
for file in "$program" "$debug"; do
  # grep reads to the end: pipefail would take a strings that is cut off for a good sign.
  named=$(strings --all "$file" | grep -cF -e "$PWD/" -e "${CARGO_HOME:-$HOME/.cargo}/" || true)
  [ "$named" = 0 ] || die "$file names a folder of this machine, $named times"
done
[ "$(dpkg-deb --field "$symbols" Recommends)" = "domstats-exporter (= $(dpkg-deb --field "$package" Version))" ] ||
  die "the symbols are of another version than the program"
say "symbols: main is at $line"
