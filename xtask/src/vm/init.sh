#!/busybox sh
# Opens the disks of a guest and goes on there.
/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do
	/busybox insmod "/$module"
done </modules
/busybox mount -t ext4 /dev/vda /root
/busybox mkdir -p /root/dev /root/guest /root/proc /root/run /root/sys /root/tmp /root/usr/lib/modules
/busybox mount -t ext4 /dev/vdb /root/guest
/busybox mount -o move /dev /root/dev
exec /busybox switch_root /root /bin/sh /guest/play
