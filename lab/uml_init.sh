#!/bin/sh
# First process of User Mode Linux (lab/uml.py starts it; its environment is the kernel's command line).
#
# Its root file system is the machine's, read-only. What runs here sees an overlay of it instead: everything is there
# and everything can be written, into memory. Only $UML_SHARE, a directory of this one run, is the machine's: it holds
# the job (a shell script) and receives the job's exit status.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

power_off() {
  echo o >/proc/sysrq-trigger
  sleep 10
}
mount -t proc proc /proc
trap power_off EXIT
trap 'exit 1' INT TERM

mount -t tmpfs -o mode=755 scratch /run
mkdir -p /run/share /run/root /run/above/upper /run/above/work /run/modules/usr/lib
mount -t hostfs -o "$UML_SHARE" share /run/share

# Debian keeps these modules beside the machine's own; modprobe looks for lib/modules below a directory.
ln -s usr/lib /run/modules/lib
ln -s /usr/lib/uml/modules /run/modules/usr/lib/modules
# shellcheck disable=SC2086 # a list of words
modprobe -d /run/modules -a overlay $UML_MODULES

root=/run/root
mount -t overlay -o lowerdir=/,upperdir=/run/above/upper,workdir=/run/above/work overlay $root
mkdir -p $root/var/lib/cni
mount -t proc proc $root/proc
mount -t sysfs sys $root/sys
mount -t devtmpfs dev $root/dev
mkdir -p $root/dev/shm
for private in /run /dev/shm /var/lib/cni; do
  mount -t tmpfs -o mode=1777 private "$root$private"
done
mkdir -p $root/run/uml/share $root/run/uml/machine
mount --move /run/share $root/run/uml/share
cd $root
pivot_root . run/uml/machine
umount -l /run/uml/machine

# Through a pipe, because the job's output is not meant for a terminal, and because the status must not be written
# before the last line was.
stty -F /dev/tty1 raw -echo
{
  status=0
  /bin/sh /run/uml/share/job || status=$?
  echo $status >/run/uml/status
} </dev/null 2>&1 | cat >/dev/tty1
cp /run/uml/status /run/uml/share/status
