#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the guest "linux" (see guests.sh): uses its disk, its network and its memory a little all the time, has
# the channel of its guest agent open, and runs what is written to its serial console.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module.ko"; done </modules/list

cat >/bin/agent <<'X'
#!/bin/sh
# agent up | down: opens or closes the channel of the guest agent.
if [ "$1" = down ]; then kill "$(cat /agent.pid)"; exit; fi
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] || continue
  sleep 1000000 <>"/dev/${port##*/}" &
  echo $! >/agent.pid
done
X
chmod +x /bin/agent
while :; do
  [ ! -b /dev/vda ] || dd if=/dev/zero of=/dev/vda bs=4k count=4 conv=notrunc,fsync
  for nic in /sys/class/net/eth*; do
    [ ! -d "$nic" ] || { ifconfig "${nic##*/}" 192.0.2.1 up; ping -c 1 -w 1 192.0.2.2; }
  done
  sleep 1
done >/dev/null 2>&1 &
agent up
while :; do sh </dev/ttyS0 >/dev/ttyS0 2>&1; done
