#!/bin/bash
# arm64 on any machine: a cross build against Debian's arm64 libraries, the unit tests under qemu-user, and the program there with
# libvirt's test driver and with the fake daemon, which runs under qemu-user too.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
cd "$(dirname "$(realpath "$0")")/../.."
target=aarch64-unknown-linux-gnu emulator=qemu-aarch64-static
for program in aarch64-linux-gnu-gcc "$emulator" debootstrap rustup; do
  command -v "$program" >/dev/null || { say "$program is missing"; exit 3; }
done
[ "$EUID" = 0 ] || { say "debootstrap needs root"; exit 3; }
rustup target list --installed | grep -qx "$target" || rustup --quiet target add "$target" || { say "no standard library for $target"; exit 3; }

# Debian's packages unpacked, not configured: that is enough to link with and to run a program in.
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
sysroot=$(lab_cache)/$suite-arm64
exec 9>"$sysroot.lock"
flock 9
if [ ! -d "$sysroot" ]; then
  say "lab: unpacking Debian $suite for arm64 in $sysroot (once)"
  rm -rf --one-file-system "$sysroot.part"
  debootstrap --arch=arm64 --foreign --variant=minbase --include=libvirt-dev,ca-certificates "$suite" "$sysroot.part" "$(mirror)" >"$sysroot.log" 2>&1 ||
    { tail -n 5 "$sysroot.log" >&2; exit 3; }
  for package in "$sysroot.part"/var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" "$sysroot.part"; done
  rm -rf "$sysroot.part"/var/cache/apt/archives
  mv "$sysroot.part" "$sysroot"
fi
exec 9>&-

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-L native=$sysroot/usr/lib/aarch64-linux-gnu -C link-arg=-Wl,-rpath-link,$sysroot/usr/lib/aarch64-linux-gnu:$sysroot/lib/aarch64-linux-gnu"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$emulator -L $sysroot"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$sysroot PKG_CONFIG_LIBDIR=$sysroot/usr/lib/aarch64-linux-gnu/pkgconfig
jobs=(${CARGO_BUILD_JOBS:+--jobs "$CARGO_BUILD_JOBS"})
cargo build --quiet --locked --target "$target" "${jobs[@]}"
program=$(cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/$target/debug/domstats-exporter
file=$(od --address-radix=n --format=x1 --skip-bytes=18 --read-bytes=1 "$program")
[ "$file" = " b7" ] || die "$program is not for arm64"
said=$("$emulator" -L "$sysroot" "$program" scrape --libvirt.uri=test:///default)
[[ $said == *$'\nlibvirt_up 1\n'* ]] || die "no scrape of the test driver: $(tail -n 3 <<<"$said")"
say "arm64: a scrape of the test driver, $(grep -c '^libvirt_' <<<"$said") samples"
# qemu-user does not show a process its children in /proc.
cargo test --quiet --locked --target "$target" "${jobs[@]}" --lib --test fake_daemon -- \
  --skip a_process_ends_with_all_that_it_has_started
