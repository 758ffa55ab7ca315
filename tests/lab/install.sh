#!/bin/bash
# Installs the Debian packages that are missing: install.sh build | deb | rpm | release | packages | demo | test | bench; each needs
# those of build.
#
# No service is started, and none that comes with a package installed here will start at boot: the lab runs its own.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

wanted=(gcc libc6-dev pkg-config libvirt-dev)
demo=(libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils iproute2 curl)
test=(bindfs debootstrap dnsmasq-base fish lintian man-db openssl prometheus prometheus-libvirt-exporter python3 python3-prometheus-client python3-venv rpm rpmlint shellcheck systemd systemd-container udhcpc valgrind zsh)
deb=(binutils dpkg-dev)
rpm=(binutils rpm)
release=(buildah debootstrap fuse-overlayfs git)
packages=(ansible ansible-lint crun gcc-aarch64-linux-gnu libc6-dev-arm64-cross podman qemu-user-static runc systemd-container uidmap)
# The peers of benches/real.sh. The two libraries are those of collectd's plugin write_prometheus, which it only suggests.
bench=(collectd-core libmicrohttpd12 libprotobuf-c1 prometheus-libvirt-exporter python3 python3-venv strace)
case "${1:-}" in
  build) ;;
  deb) wanted+=("${deb[@]}") ;;
  rpm) wanted+=("${rpm[@]}") ;;
  release) wanted+=("${deb[@]}" "${rpm[@]}" "${release[@]}") ;;
  packages) wanted+=("${deb[@]}" "${rpm[@]}" "${demo[@]}" "${release[@]}" "${packages[@]}") ;;
  demo) wanted+=("${demo[@]}") ;;
  test) wanted+=("${deb[@]}" "${demo[@]}" "${test[@]}") ;;
  bench) wanted+=("${demo[@]}" "${bench[@]}") ;;
  *) die "usage: install.sh build | deb | rpm | release | packages | demo | test | bench" ;;
esac

if [ "$1" = test ] && command -v rustup >/dev/null; then
  cargo fmt --version >/dev/null 2>&1 || rustup --quiet component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup --quiet component add clippy
fi

if ! command -v apt-get >/dev/null; then
  say "lab: no apt-get on this machine; whatever is missing of these is yours to install: ${wanted[*]}"
  exit 0
fi
missing=()
for p in "${wanted[@]}"; do
  dpkg-query --show --showformat '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$EUID" != 0 ]; then
  sudo -n true 2>/dev/null || sudo -v 2>/dev/null ||
    die "these Debian packages are missing, and installing them needs root or sudo: ${missing[*]}"
  as_root=(sudo)
fi
say "lab: installing ${missing[*]}"

# invoke-rc.d and deb-systemd-invoke ask this program before they start a service; 101 forbids it.
policy=/usr/sbin/policy-rc.d
restore() { "${as_root[@]}" rm -f "$policy"; [ ! -e "$policy.lab" ] || "${as_root[@]}" mv "$policy.lab" "$policy"; }
forbidden=0; "$policy" prometheus start >/dev/null 2>&1 || forbidden=$?
if [ "$forbidden" != 101 ]; then
  trap restore EXIT
  [ ! -e "$policy" ] || "${as_root[@]}" mv "$policy" "$policy.lab"
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi
log=$(mktemp)
if ! { "${as_root[@]}" apt-get -qq update &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  die "apt-get could not install ${missing[*]}; its whole output is $log"
fi
rm -f "$log"
for service in prometheus:prometheus prometheus-libvirt-exporter:prometheus-libvirt-exporter collectd-core:collectd; do
  if command -v systemctl >/dev/null && [[ " ${missing[*]} " == *" ${service%:*} "* ]]; then
    "${as_root[@]}" systemctl --quiet disable "${service#*:}.service" 2>/dev/null || true
  fi
done
