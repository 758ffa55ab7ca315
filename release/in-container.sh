#!/bin/bash
# A command in a container of a distribution, with these sources and this machine's Rust: in-container.sh IMAGE COMMAND...
#
# Podman or Docker. Privileged, since tests mount, boot containers of their own and use KVM where it is there.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
[ $# -ge 2 ] || die "usage: in-container.sh IMAGE COMMAND..."
image=$1; shift
engine=$(command -v podman || command -v docker) || die "neither podman nor docker is there"
cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
exec "$engine" run --rm --privileged --network host --volume "$root:$root" --volume "$cargo_home:$cargo_home" --volume "$rustup_home:$rustup_home" \
  --env "CARGO_HOME=$cargo_home" --env "RUSTUP_HOME=$rustup_home" --env CI --env SOURCE_DATE_EPOCH --env DOMSTATS_EXPORTER_REVISION --env FUZZ_SECONDS --env DEBIAN_FRONTEND=noninteractive \
  --env "PATH=$cargo_home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" --workdir "$root" "$image" "$@"
