#!/bin/bash
# What the workflows do in a container that has nothing but its distribution: ci.sh lint | test | make TARGET.
# shellcheck source=release/lib.sh
. "$(dirname "$0")/lib.sh"
if command -v apt-get >/dev/null; then
  apt-get -qq update
  apt-get -qq install --no-install-recommends ca-certificates git make >/dev/null
else
  dnf --quiet --assumeyes install gcc git libvirt-devel make pkgconf-pkg-config
fi
# The sources belong to another user than the container's.
git config --global --add safe.directory "$root"
case ${1:-} in
  lint)
    tests/lab/install.sh test
    make lint
    ;;
  test)
    if command -v apt-get >/dev/null && [ "$(sed -n 's/^ID=//p' /etc/os-release)" = debian ]; then
      make test
    else
      # The laboratory is Debian's; here are the tests that need libvirt's client library and no more.
      command -v dnf >/dev/null || tests/lab/install.sh build
      cargo test --locked --lib --bins --test golden --test contract --test libvirt_keys --test properties --test fake_daemon --test collect --test web --test reload
    fi
    ;;
  make)
    shift
    make "$@"
    ;;
  *) die "usage: ci.sh lint | test | make TARGET" ;;
esac
