#!/bin/bash
# What the program is made of, in CycloneDX: sbom.sh FOLDER writes it into FOLDER.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: sbom.sh FOLDER"
command -v cargo-cyclonedx >/dev/null || { say "installing cargo-cyclonedx (some minutes)"; cargo install --locked --quiet cargo-cyclonedx; }
mkdir -p "$1"
# It writes beside each Cargo.toml of the workspace.
written=domstats-exporter-sbom
trap 'rm -f "$written.json" */*/"$written.json"' EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$(host)" --override-filename "$written"
# A component's reference is that of cargo, which has the path of its sources.
sed -e "s|path+file://$root#||g" -e 's#?download_url=file://\.##g' "$written.json" >"$1/domstats-exporter-$version.cdx.json"
echo "$1/domstats-exporter-$version.cdx.json"
