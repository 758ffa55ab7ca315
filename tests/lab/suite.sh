#!/bin/bash
# A libvirtd and QEMU of another Debian suite (trixie: libvirt 11.3; sid: the newest packaged one) beside the machine's own.
#
#   suite.sh start SUITE DIR   like libvirtd.sh start DIR, but with that suite's libvirtd and QEMU; DIR is seen by both sides.
#   suite.sh stop DIR          like libvirtd.sh stop DIR.
#   suite.sh prepare SUITE     only makes the chroot; prints its folder.
#   suite.sh chroot NAME SUITE PACKAGE...   prints the folder of a tree of that suite with these packages (see boot.sh).
#
# A suite is a chroot, made once a machine by debootstrap (one to two minutes, 600 MB) below LAB_CACHE, by default
# ${XDG_CACHE_HOME:-~/.cache}/domstats-exporter/lab. It is only ever read afterwards. Delete it to have it made again.
# Needs root; without, it asks sudo.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(realpath "$0")")
packages=(dnsmasq-base libvirt-daemon libvirt-daemon-driver-network libvirt-daemon-driver-qemu libvirt-daemon-driver-storage
  qemu-system-x86 qemu-utils)

# Makes the chroot $1 of suite $2 with packages $3... Runs in a mount namespace of its own: what it mounts ends with it.
build() {
  local chroot=$1 suite=$2 url; shift 2
  url=$(mirror)
  # What this machine's apt needs to reach its mirror (a proxy) the chroot's needs as well.
  local proxy=; eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [ -z "$proxy" ] || export http_proxy=$proxy https_proxy=$proxy
  debootstrap --variant=minbase "$suite" "$chroot" "$url"
  apt-config dump | grep -E '^Acquire::https?:' >"$chroot/etc/apt/apt.conf.d/90lab" || true
  # A mirror may be a snapshot, whose lists have expired; for a laboratory they are good.
  echo 'Acquire::Check-Valid-Until "false";' >>"$chroot/etc/apt/apt.conf.d/90lab"
  echo force-unsafe-io >"$chroot/etc/dpkg/dpkg.cfg.d/lab" # a cache needs no fsync
  printf '#!/bin/sh\nexit 101\n' >"$chroot/usr/sbin/policy-rc.d"
  chmod +x "$chroot/usr/sbin/policy-rc.d"
  for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    [ ! -f "$file" ] || { mkdir -p "$chroot$(dirname "$file")"; cat "$file" >"$chroot$file"; }
  done
  for m in proc sys dev; do mount --rbind "/$m" "$chroot/$m"; done
  export DEBIAN_FRONTEND=noninteractive
  chroot "$chroot" apt-get -qq update
  chroot "$chroot" apt-get -qq install --no-install-recommends "$@"
  chroot "$chroot" apt-get clean
  rm -rf "$chroot"/var/lib/apt/lists/*
}

# chroot_of NAME SUITE PACKAGE...
chroot_of() {
  local name=$1 suite=$2 chroot; shift 2
  chroot=$(lab_cache)/$name
  # Two tests may want the same suite at once: the second waits for the first.
  exec 9>"$chroot.lock"
  flock 9
  if [ ! -d "$chroot" ]; then
    need debootstrap debootstrap
    say "lab: making a chroot of Debian $suite in $chroot (once; a minute or two)"
    # It gets its name when it is whole, so that a build which was interrupted is never taken for one.
    tidy "$chroot.part"
    if ! unshare --mount --propagation private "$here/suite.sh" build "$chroot.part" "$suite" "$@" >"$chroot.log" 2>&1 9>&-; then
      tail -n 20 "$chroot.log" >&2
      die "the chroot of Debian $suite could not be made; the whole log is $chroot.log"
    fi
    rm -f "$chroot.log"
    mv "$chroot.part" "$chroot"
  fi
  exec 9>&-
  echo "$chroot"
}

# Removes a tree, and first whatever is mounted in it: never follow a mount with rm -r.
tidy() {
  local tree=$1 point
  while read -r point; do umount --lazy "$point"; done < <(awk -v t="$tree/" 'index($5, t) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
  rm -rf --one-file-system "$tree"
}

case "${1:-} $#" in
  "start 3" | "stop 2" | "prepare 2")
    if [ "$EUID" != 0 ]; then
      sudo -n true 2>/dev/null || die "a libvirt of another suite runs in a chroot, which needs root: run this as root, or allow sudo"
      exec sudo -n env "HOME=$HOME" "LAB_OWNER=${LAB_OWNER:-}" "LAB_CACHE=${LAB_CACHE:-}" "LAB_MIRROR=${LAB_MIRROR:-}" \
        "XDG_CACHE_HOME=${XDG_CACHE_HOME:-}" "$here/suite.sh" "$@"
    fi
    [ "$1" != stop ] || exec "$here/libvirtd.sh" stop "$2"
    can_mount || die "a libvirt of another suite runs in a chroot, which needs the right to mount: give the container CAP_SYS_ADMIN"
    # A tree that was made with other packages is not this one.
    chroot=$(chroot_of "$2-$(echo "${packages[@]}" | cksum | cut -d' ' -f1)" "$2" "${packages[@]}")
    [ "$1" = start ] || { echo "$chroot"; exit; }
    exec "$here/libvirtd.sh" start "$3" "$chroot"
    ;;
  chroot\ *) shift; chroot_of "$@" ;;
  build\ *) shift; build "$@" ;;
  *) die "usage: suite.sh start SUITE DIR | stop DIR | prepare SUITE | chroot NAME SUITE PACKAGE..." ;;
esac
