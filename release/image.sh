#!/bin/bash
# The container image of the Debian package in target/dist: image.sh FOLDER writes it into FOLDER, for podman load and docker load.
#
# BASE_IMAGE is the Debian that its libraries come from, of this machine's release. Without one, root has debootstrap make one.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: image.sh FOLDER"
command -v buildah >/dev/null || die "buildah is missing: install the Debian package buildah"
mkdir -p "$1"
arch=$(dpkg --print-architecture)
archive=$1/domstats-exporter-$version-image-$arch.tar
name=localhost/domstats-exporter:$version
base=${BASE_IMAGE:-}
if [ -z "$base" ]; then
  suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  tree=$(tests/lab/suite.sh chroot "$suite-image" "$suite" libvirt0 ca-certificates)
  base=localhost/domstats-exporter-base:$suite
  made=$(buildah from scratch)
  buildah add --quiet "$made" "$tree" / >/dev/null
  buildah commit --quiet "$made" "$base" >/dev/null
  buildah rm "$made" >/dev/null
fi
# Docker's format has health checks, OCI's has none. A container of its own for each step needs more than this asks for.
buildah build --quiet --format docker --isolation chroot --network host --timestamp "$SOURCE_DATE_EPOCH" \
  --file packaging/container/Containerfile --build-arg "BASE_IMAGE=$base" --build-arg "TARGETARCH=$arch" --build-arg "VERSION=$version" \
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)" --tag "$name" . >/dev/null
rm -f "$archive" "$archive.gz"
buildah push --quiet "$name" "docker-archive:$archive:$name" >/dev/null
gzip --no-name "$archive"
echo "$archive.gz"
