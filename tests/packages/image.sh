#!/bin/bash
# The image with Podman on a real libvirtd with a real guest: as root, and as a user with each mapping that docs/containers.md names.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
lab=$(dirname "$(realpath "$0")")/../lab
cd "$lab/../.."
for program in podman buildah runc newuidmap; do command -v "$program" >/dev/null || { say "$program is missing"; exit 3; }; done
can_mount || { say "this needs root and the right to mount"; exit 3; }
image=$(find target/dist -name '*-image-*.tar.gz' 2>/dev/null | head -n 1)
[ -n "$image" ] || image=$(release/deb.sh target/dist && release/image.sh target/dist)
name=localhost/domstats-exporter:$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

work=$(mktemp -d /tmp/image.XXXXXX) user=domstats-image-$$
cleanup() {
  trap - EXIT
  "$lab/libvirtd.sh" stop "$work/lab" || true
  podman --runtime runc rm --force --time 5 "$user" >/dev/null 2>&1 || true
  runuser --login "$user" --command 'podman unshare rm -rf ~/.local' >/dev/null 2>&1 || true
  # Podman leaves a process that keeps its namespace, and with it the user, who was made here and has no other.
  pkill -KILL --uid "$user" 2>/dev/null || true
  userdel --remove "$user" >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
LAB_OWNER=$$ "$lab/libvirtd.sh" start "$work/lab" >/dev/null
guest=$("$lab/guests.sh" "$work/lab" web)
chmod 755 "$work" "$work/lab"
zcat "$image" | podman load --quiet >/dev/null

# No limit above this machine's, and no cgroup v2, is taken for granted: runc, and lower limits.
options=(--rm --network=host --no-healthcheck --ulimit=nofile=8192:8192 --ulimit=nproc=4096:4096 --read-only --cap-drop=all
  --security-opt=no-new-privileges "--volume=$work/lab/sock:/run/libvirt:ro")
run() { podman --runtime runc run "${options[@]}" "$@" 2>&1 || true; }
fail() { say "FAILED: $1; it said: $(grep -E '^libvirt_up|exporter: |Error' <<<"$2" || tail -n 3 <<<"$2")"; exit 1; }
works() { [[ $2 == *$'\nlibvirt_up 1\n'* && $2 == *"domain=\"$guest\""* ]] || fail "$1" "$2"; say "$1: works"; }
refused() { [[ $2 == *"Failed to find user record for uid"* ]] || fail "$1" "$2"; say "$1: refused, as documented"; }

works "root's Podman" "$(run "$name" scrape)"
refused "root's Podman with another mapping of users" "$(run --uidmap=0:200000:65536 "$name" scrape)"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
podman --runtime runc run --detach --name "$user" "${options[@]}" "$name" --web.listen-address="127.0.0.1:$port" >/dev/null 2>&1
for _ in {1..100}; do
  body=$(curl --silent --max-time 10 "http://127.0.0.1:$port/metrics" || true)
  [ -z "$body" ] || break
  sleep 0.2
done
works "a scrape over HTTP" "$body"
# What the health check of the image runs, with the flag that the exporter was given.
podman --runtime runc exec "$user" /usr/bin/domstats-exporter healthy --web.listen-address="127.0.0.1:$port" || fail "its health" "$(podman logs "$user" 2>&1)"
check=$(podman inspect --format '{{.HealthCheck.Test}} {{.User}}' "$name")
[[ $check == *healthy* && $check == *65534:65534 ]] || fail "health check and user of the image" "$check"
[ "$(podman inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "$name")" = "${name##*:}" ] || fail "its label" ""
podman --runtime runc stop --time 5 "$user" >/dev/null 2>&1

useradd --create-home --shell /bin/bash "$user"
install -m 644 "$image" "$work/image.tar.gz" # below a folder that the user can read
as_user() {
  # shellcheck disable=SC2016 # the user's shell expands these
  runuser --login "$user" --command 'export XDG_RUNTIME_DIR=~/run; mkdir -p -m 700 ~/run; '"$*" 2>&1 || true
}
as_user "zcat $work/image.tar.gz | podman load --quiet" >/dev/null
run_as_user() { as_user podman --runtime runc run "${options[*]}" "$*"; }
refused "a user's Podman" "$(run_as_user "$name" scrape)"
works "a user's Podman with --userns=keep-id:uid=65534,gid=65534" "$(run_as_user --userns=keep-id:uid=65534,gid=65534 "$name" scrape)"
works "a user's Podman as the container's root, who is that user" "$(run_as_user --user=0:0 "$name" scrape)"
