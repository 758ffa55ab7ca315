#!/bin/bash
# The program with its manual, units and documentation, for hosts of any distribution: tarball.sh FOLDER writes it into FOLDER.
#
# Its name and layout are those of [package.metadata.binstall] in Cargo.toml.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: tarball.sh FOLDER"
mkdir -p "$1"
folder=$(realpath "$1") name=domstats-exporter-$version-$(host)
program=$(release/build.sh)
manual
work=$(mktemp -d "${TMPDIR:-/tmp}/tarball.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/$name
mkdir -p "$tree"/{man,completions,systemd,examples,dashboards,alerts}
objcopy --strip-all --remove-section=.comment "$program" "$tree/domstats-exporter"
cp LICENSE-MIT LICENSE-APACHE CHANGELOG.md METRICS.md config.example.yaml web.example.yaml target/manual/README.md \
  target/manual/third-party-licences.gz "$tree/"
cp -r target/manual/docs "$tree/docs"
cp target/manual/*.[58] "$tree/man/"
cp target/manual/{domstats-exporter.bash,_domstats-exporter,domstats-exporter.fish} "$tree/completions/"
cp systemd/domstats-exporter.{service,socket} debian/config.yaml "$tree/systemd/"
cp -r systemd/examples "$tree/systemd/examples"
cp examples/*.* "$tree/examples/"
cp dashboards/*.json "$tree/dashboards/"
cp alerts/*.yaml target/manual/alerts/*.md "$tree/alerts/"
chmod -R u=rwX,go=rX "$tree"
tar --create --directory "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu "$name" |
  gzip --no-name --best >"$folder/$name.tar.gz"
echo "$folder/$name.tar.gz"
