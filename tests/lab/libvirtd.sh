#!/bin/bash
# A libvirtd of one's own, beside whatever libvirt the machine runs.
#
#   libvirtd.sh start DIR [CHROOT]   starts it, waits until it answers, prints its URI (also in DIR/uri; DIR/uri-ro is the
#                                    read-only socket's). CHROOT: run the libvirtd of that tree (see suite.sh).
#   libvirtd.sh stop DIR             ends its guests and itself, and removes what they left behind. May be called at any time.
#
# As root it lives in a mount namespace of its own, so that its state, sockets and configuration are DIR's and every mount
# ends with its last process. Elsewhere it is a session daemon with its own XDG folders: the same, without tap NICs.
# With LAB_CONF=FILE in the environment its lines are added to libvirtd.conf, and the daemon listens on TCP and TLS as they say.
# With LAB_OWNER=PID in the environment the lab stops itself, and removes DIR, when that process is gone, however it went.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

start() {
  local dir chroot=${2:-} mode=session run_as=() listen=() user
  dir=$(realpath -m "$1")
  need virsh libvirt-clients
  [ -n "$chroot" ] || need libvirtd libvirt-daemon
  [[ $dir != *[[:space:]]* ]] || die "$dir: the folder's name must be without spaces"
  # A Unix socket's path ends at 107 bytes, and QEMU's monitor lies deep below DIR in a session daemon.
  [ ${#dir} -le 40 ] || die "$dir: the folder's name must be at most 40 characters long (socket paths are limited)"
  [ -z "$(lab_processes "$dir")" ] || die "a lab is running in $dir already"
  if can_mount; then mode=system; elif [ -n "$chroot" ]; then die "a chroot needs root and the right to mount: run this as root"; fi
  mkdir -p "$dir"/{disks,ns,sock} "$dir"/fs/{run,var/lib,var/log,var/cache,etc}/libvirt
  chmod 700 "$dir" # its sockets are open to anyone who reaches them
  rm -f "$dir"/{uri,uri-ro,libvirtd.pid,libvirtd.log}
  # Guests of two labs share the machine's control groups and network devices: each lab names its own by this.
  echo "$$" >"$dir/token"
  cat >"$dir/libvirtd.conf" <<C
unix_sock_dir = "$dir/sock"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
log_outputs = "3:file:$dir/libvirtd.log"
C
  [ -z "${LAB_CONF:-}" ] || { cat "$LAB_CONF" >>"$dir/libvirtd.conf"; listen=(--listen); }
  # Logs go to plain files, so that no virtlogd is needed; QEMU stays in the daemon's mount namespace, where stop finds it.
  cat >"$dir/fs/etc/libvirt/qemu.conf" <<'C'
security_driver = "none"
remember_owner = 0
stdio_handler = "file"
namespaces = []
C
  if [ "$mode" = system ]; then
    printf 'user = "root"\ngroup = "root"\n' >>"$dir/fs/etc/libvirt/qemu.conf"
    # shellcheck disable=SC2016 # the inner shell expands these
    setsid unshare --mount --propagation private bash -euc '
      dir=$1 chroot=$2 root=
      mount -t tmpfs "lab:$dir" "$dir/ns"
      if [ -n "$chroot" ]; then
        # Whatever is written goes to the tmpfs: the cached tree stays as it was built, and any number of labs can share it.
        root=$dir/ns/root
        mkdir "$dir"/ns/{root,upper,work}
        # Its source names the lab, for in the chroot the tmpfs is out of sight.
        mount -t overlay "lab:$dir" -o "lowerdir=$chroot,upperdir=$dir/ns/upper,workdir=$dir/ns/work" "$root"
        for p in proc sys dev; do mount --rbind "/$p" "$root/$p"; done
        # The lab folder has one path, inside and outside: disks can be named in the XML as the caller sees them.
        mkdir -p "$root/$dir"; mount --bind "$dir" "$root/$dir"
      fi
      for p in run var/lib var/log var/cache etc; do
        mkdir -p "$root/$p/libvirt"; mount --bind "$dir/fs/$p/libvirt" "$root/$p/libvirt"
      done
      # libvirt of Debian 12 wants the user that its package libvirt-daemon-system would make, even to use another one.
      if ! chroot "${root:-/}" getent passwd libvirt-qemu >/dev/null; then
        { cat "$root/etc/passwd"; echo "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin"; } >"$dir/fs/passwd"
        { cat "$root/etc/group"; echo "libvirt-qemu:x:64055:"; } >"$dir/fs/group"
        for f in passwd group; do mount --bind "$dir/fs/$f" "$root/etc/$f"; done
      fi
      exec chroot "${root:-/}" libvirtd "${@:3}" --config "$dir/libvirtd.conf" --pid-file "$dir/libvirtd.pid"' \
      bash "$dir" "$chroot" "${listen[@]}" </dev/null >"$dir/libvirtd.out" 2>&1 &
    echo "qemu+unix:///system?socket=$dir/sock/libvirt-sock" >"$dir/uri"
    echo "qemu+unix:///system?socket=$dir/sock/libvirt-sock-ro" >"$dir/uri-ro"
  else
    if [ "$EUID" = 0 ]; then
      # Root without the right to mount (a container): a privileged daemon could not be kept apart, another user's can.
      need setpriv util-linux
      user=$(id -u nobody)
      chown -R "$user" "$dir"
      run_as=(setpriv "--reuid=$user" "--regid=$(id -g nobody)" --clear-groups)
    fi
    # The place where a session daemon looks for its configuration is XDG_CONFIG_HOME/libvirt.
    setsid "${run_as[@]}" env HOME="$dir/fs/run" XDG_RUNTIME_DIR="$dir/fs/run" XDG_CONFIG_HOME="$dir/fs/etc" \
      XDG_CACHE_HOME="$dir/fs/var/cache" XDG_DATA_HOME="$dir/fs/var/lib" \
      libvirtd "${listen[@]}" --config "$dir/libvirtd.conf" --pid-file "$dir/libvirtd.pid" </dev/null >"$dir/libvirtd.out" 2>&1 &
    echo "qemu+unix:///session?socket=$dir/sock/libvirt-sock" | tee "$dir/uri-ro" >"$dir/uri"
  fi
  local daemon=$! waited=0
  until lab_virsh "$dir" version >/dev/null 2>"$dir/virsh.err"; do
    if ! kill -0 "$daemon" 2>/dev/null || [ $((waited += 1)) -gt 600 ]; then
      say "lab: libvirtd in $dir did not start:"
      tail -qn 15 "$dir/virsh.err" "$dir/libvirtd.out" "$dir/libvirtd.log" >&2 2>/dev/null || true
      stop "$dir"
      exit 1
    fi
    sleep 0.2
  done
  if [ -n "${LAB_OWNER:-}" ]; then
    # shellcheck disable=SC2016 # the inner shell expands these
    setsid bash -c 'tail --pid="$1" -s 2 -f /dev/null; rm -f "$3/watcher"; "$2" stop "$3"; rm -rf --one-file-system "$3"' bash "$LAB_OWNER" "$(realpath "$0")" "$dir" \
      </dev/null >/dev/null 2>&1 &
    echo $! >"$dir/watcher"
  fi
  cat "$dir/uri"
}

stop() {
  local dir cgroups pids
  dir=$(realpath -m "$1")
  # The watcher has nothing to watch any more. Where it is what runs this, it has removed its file.
  local watcher; watcher=$(cat "$dir/watcher" 2>/dev/null || true)
  [ -z "$watcher" ] || kill -- "-$watcher" 2>/dev/null || true
  pids=$(lab_processes "$dir")
  cgroups=$(for p in $pids; do [[ $(cat "/proc/$p/comm" 2>/dev/null) != qemu* ]] || cut -d: -f3- "/proc/$p/cgroup"; done 2>/dev/null | sort -ru)
  # QEMUs first, and hard: a frozen one would ignore anything less. libvirtd notices, and clears up after each.
  for p in $pids; do [[ $(cat "/proc/$p/comm" 2>/dev/null) != qemu* ]] || kill -KILL "$p" 2>/dev/null || true; done
  if [ -n "$pids" ] && [ -f "$dir/uri" ]; then
    for _ in {1..20}; do
      [ -n "$(timeout 2 virsh --quiet --connect "$(cat "$dir/uri")" list --name 2>/dev/null | tr -d '[:space:]')" ] || break
      sleep 0.1
    done
  fi
  local signal=TERM round=0
  while pids=$(lab_processes "$dir"); [ -n "$pids" ] && [ $((round += 1)) -le 100 ]; do
    for p in $pids; do kill "-$signal" "$p" 2>/dev/null || true; done
    sleep 0.1
    [ "$round" -lt 30 ] || signal=KILL
  done
  [ -z "$(lab_processes "$dir")" ] || die "some processes of $dir do not end: $(lab_processes "$dir" | tr '\n' ' ')"
  # What only a daemon that was killed leaves behind.
  local tap group
  while read -r tap; do
    [ -z "$tap" ] || [ ! -e "/sys/class/net/$tap" ] || ip link delete "$tap" 2>/dev/null || true
  done < <(cat "$dir/taps" 2>/dev/null || true)
  while read -r group; do
    case $group in */qemu-* | */machine-qemu*) ;; *) continue ;; esac
    group=${group%/libvirt/*}; group=${group%/emulator}
    for mount in /sys/fs/cgroup /sys/fs/cgroup/*; do
      [ ! -d "$mount$group" ] || find "$mount$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
  done <<<"$cgroups"
  # The parent of all guests' groups goes with the last libvirt; before, another one may be about to use it.
  [[ $(readlink /proc/[0-9]*/exe) =~ /(libvirtd|virtqemud)($'\n'|$) ]] || rmdir /sys/fs/cgroup/{,*/}machine 2>/dev/null || true
  # A test run keeps the log; the rest could belong to root or to nobody, and would prevent removal of the folder.
  rm -rf --one-file-system "$dir"/{uri,uri-ro,token,watcher,taps,fs,ns,sock,disks}
}

case "${1:-} $#" in
  "start 2" | "start 3" | "stop 2") "$@" ;;
  *) die "usage: libvirtd.sh start DIR [CHROOT] | stop DIR" ;;
esac
