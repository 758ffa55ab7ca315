#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the guest "linux" (see guests.sh): uses its disk, its network and its memory a little all the time, has
# the channel of its guest agent open, where no agent answers, and runs what is written to its serial console.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module.ko"; done </modules/list

cat >/bin/agent <<'X'
#!/bin/sh
# agent up | down | real: opens or closes the channel of the guest agent; or has QEMU's agent answer there.
if [ "$1" != up ]; then kill "$(cat /agent.pid)"; fi
[ "$1" != down ] || exit
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] || continue
  if [ "$1" = real ]; then LD_LIBRARY_PATH=/lib64 qemu-ga -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid &
  else sleep 1000000 <>"/dev/${port##*/}" &
  fi
  echo $! >/agent.pid
done
X
chmod +x /bin/agent
ln -s /run /var/run
hostname inside
printf 'ID=lab\nPRETTY_NAME="Linux of the laboratory"\nVERSION_ID=1\n' >/etc/os-release
while :; do
  [ ! -b /dev/vda ] || dd if=/dev/zero of=/dev/vda bs=4k count=4 conv=notrunc,fsync
  for nic in /sys/class/net/eth*; do
    [ ! -d "$nic" ] || { ifconfig "${nic##*/}" 192.0.2.1 up; ping -c 1 -w 1 192.0.2.2; }
  done
  sleep 1
done >/dev/null 2>&1 &
agent up
while :; do sh </dev/ttyS0 >/dev/ttyS0 2>&1; done
