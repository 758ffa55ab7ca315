#!/bin/sh
# Lays out the image: root.sh PACKAGE FOLDER, on a Debian with libvirt0 and ca-certificates.
#
# The program with its settings and its licences; of Debian the libraries that the program loads, each with its copyright, and what
# names and certificates are looked up in. No shell, no package manager, no other program.
set -eu
package=$1 image=$2
program=usr/bin/domstats-exporter
unpacked=$(mktemp -d)
dpkg-deb --extract "$package" "$unpacked"
mkdir -p "$image/usr/bin" "$image/usr/lib" "$image/etc/ssl/certs" "$image/usr/share/doc" "$image/var/lib/dpkg/status.d"
install -m 1777 -d "$image/tmp"
# libvirt's client library looks for the sockets below /var/run.
mkdir "$image/run"
ln -s /run "$image/var/run"
cp "$unpacked/$program" "$image/usr/bin/"
cp -r "$unpacked/etc/domstats-exporter" "$image/etc/"
mkdir "$image/usr/share/doc/domstats-exporter"
for file in copyright third-party-licences.gz; do
  cp "$unpacked/usr/share/doc/domstats-exporter/$file" "$image/usr/share/doc/domstats-exporter/"
done
# All of Debian's architectures have the loader in one of these.
for link in lib lib64; do
  if [ -h "/$link" ]; then
    mkdir -p "$image/usr/$link"
    ln -s "usr/$link" "$image/$link"
  fi
done

# The folder of a library by its real path: /lib is a link to /usr/lib.
ldd "$unpacked/$program" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p' | sort -u | while read -r library; do
  folder=$(readlink -f "$(dirname "$library")") name=$(basename "$library")
  mkdir -p "$image$folder"
  cp --dereference "$library" "$image$folder/"
  dpkg-query --search "$library" "$folder/$name" "${folder#/usr}/$name" 2>/dev/null | sed 's/:.*//' | head -n 1
done | sort -u >"$unpacked/packages"

for name in $(cat "$unpacked/packages") ca-certificates base-files netbase; do
  dpkg-query --status "$name" >/dev/null 2>&1 || continue
  # Where scanners for vulnerabilities look in images without dpkg.
  dpkg-query --status "$name" >"$image/var/lib/dpkg/status.d/$name"
  if [ -e "/usr/share/doc/$name/copyright" ]; then
    mkdir -p "$image/usr/share/doc/$name"
    cp --dereference "/usr/share/doc/$name/copyright" "$image/usr/share/doc/$name/"
  fi
done
cp --dereference /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/"
cp --dereference /etc/os-release "$image/etc/"
cp /etc/nsswitch.conf "$image/etc/" 2>/dev/null || echo 'hosts: files dns' >"$image/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' >"$image/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$image/etc/group"
rm -r "$unpacked"
