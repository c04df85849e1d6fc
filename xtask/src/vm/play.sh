# Main script of a guest: runs the tests, or the program in their place, with the arguments in /guest/arguments, one per
# line, and reports the results.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root RUST_BACKTRACE=1 NO_COLOR=1
export RSTTRACE_BIN=/guest/rsttrace RSTTRACE_GUEST=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
# PostgreSQL shares memory there.
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
# As on every Debian: programs write their messages to /dev/stderr.
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
# With Debian's own value, 3, perf ring buffers and kprobes are for CAP_SYS_ADMIN alone.
echo 2 >/proc/sys/kernel/perf_event_paranoid
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# The kernel loads what it needs by itself.
mount --bind /guest/modules /usr/lib/modules
# For a program that delays packets in user space: the kernel makes the device with the module.
[ ! -e /guest/program ] || modprobe tun
ip link set lo up

echo "vm: kernel $(uname -r)"
"$RSTTRACE_BIN" doctor
echo "vm: doctor $?"

set --
while IFS= read -r argument; do
	set -- "$@" "$argument"
done </guest/arguments
{
	if [ -e /guest/program ]; then
		/guest/program "$@"
	else
		/guest/tests "$@"
	fi
	echo $? >/tmp/status
} | tee /tmp/first
status=$(cat /tmp/status)
# On a processor that is emulated beside another, time is distorted now and then. A real failure,
# unlike a delay, fails again when it runs alone.
again=$(sed -n 's/^test \([^ ]*\) .*FAILED$/\1/p' /tmp/first)
if [ -n "$again" ] && grep -q '^test result:' /tmp/first; then
	status=0
	for scenario in $again; do
		echo "vm: again $scenario"
		/guest/tests --exact "$scenario" >/tmp/second 2>&1 || {
			status=1
			cat /tmp/second
			echo "vm: failed-again $scenario"
		}
	done
fi
echo "vm: tests $status"
# Powers off immediately, since there is nothing to save. A first process has to exist until then, and its disk may be
# gone already.
mkfifo /tmp/forever
echo o >/proc/sysrq-trigger
read -r _ </tmp/forever
