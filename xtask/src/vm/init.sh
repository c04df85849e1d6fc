#!/busybox sh
# Mounts the disks of a guest and continues there.
/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do
	/busybox insmod "/$module"
done </modules
/busybox mount -t ext4 /dev/vda /new
/busybox mkdir -p /new/dev /new/guest /new/proc /new/run /new/sys /new/tmp /new/usr/lib/modules
/busybox mount -t ext4 /dev/vdb /new/guest
/busybox mount -o move /dev /new/dev
exec /busybox switch_root /new /bin/sh /guest/play
