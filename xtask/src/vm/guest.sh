#!/bin/busybox sh
# The whole life of a guest: it is told what to test in /arguments, one argument a line, and says how that ended.
export PATH=/bin HOME=/ RUST_BACKTRACE=1 NO_COLOR=1 RSTTRACE_BIN=/bin/rsttrace
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in inet_diag tcp_diag; do
	[ ! -e "/modules/$module.ko" ] || insmod "/modules/$module.ko"
done

echo "vm: kernel $(uname -r)"
rsttrace doctor
echo "vm: doctor $?"

set --
while IFS= read -r argument; do
	set -- "$@" "$argument"
done </arguments
integration "$@"
echo "vm: tests $?"
poweroff -f
