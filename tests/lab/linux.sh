#!/bin/bash
# The kernel and the initial file system of the guest "linux", as DIR/vmlinuz and DIR/initrd: Debian's kernel and busybox, fetched
# once a machine (20 MB), its guest agent with the libraries that it needs, and linux-init.sh. Kernels after 6.8 do not take a vCPU of QEMU's own emulation.
#
#   linux.sh DIR
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(realpath "$0")")
[ $# = 1 ] || die "usage: linux.sh DIR"
files=$("$here/fetch.sh" bookworm busybox-static @linux-image-cloud-amd64)
agent=$("$here/fetch.sh" bookworm qemu-guest-agent libglib2.0-0 libnuma1 libudev1 liburing2 libpcre2-8-0 libc6)
busybox=$(find "$files" -path '*/bin/busybox' -type f)
work=$(mktemp -d "$1/initrd.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,dev,etc,lib64,mnt,modules,proc,run,sys,var}
install -m 755 "$busybox" "$work/bin/busybox"
install -m 755 "$here/linux-init.sh" "$work/init"
install -m 755 "$(find "$agent" -name qemu-ga -type f)" "$work/bin/"
for library in libudev.so.1 libnuma.so.1 liburing.so.2 libglib-2.0.so.0 libgmodule-2.0.so.0 libpcre2-8.so.0 libm.so.6 libc.so.6 ld-linux-x86-64.so.2; do
  cp -L "$(find "$agent" -name "$library" | head -n 1)" "$work/lib64/"
done
# In the order in which they need one another.
for module in virtio virtio_ring virtio_pci_{legacy,modern}_dev virtio_pci failover net_failover virtio_{net,blk,balloon,console}; do
  cp "$(find "$files" -name "$module.ko")" "$work/modules/"
  echo "$module" >>"$work/modules/list"
done
cp "$files"/boot/vmlinuz-* "$1/vmlinuz"
(cd "$work" && find . | "$busybox" cpio -o -H newc) >"$1/initrd.part" 2>/dev/null
chmod 644 "$1/vmlinuz" "$1/initrd.part"
mv "$1/initrd.part" "$1/initrd"
