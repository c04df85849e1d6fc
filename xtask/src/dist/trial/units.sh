# Runs in a container with systemd, by bash. /older.deb and /current.deb are versions of the package.
set -eux

units='rsttrace.service rsttrace-record.service'
log=/var/log/rsttrace

# Each unit is in this state.
are() {
	test "$(systemctl "is-$1" $units 2>/dev/null | sort --unique)" = "$2"
}

# PIDs of the services.
pids() {
	systemctl show --value --property=MainPID $units | grep .
}

# A file of records gets this.
receives() {
	timeout 60 sh -c "tail --follow --lines=+1 $1 | grep --quiet --max-count=1 $2"
}

# Does what logrotate does after a rotation.
rotated() {
	sed --quiet '/postrotate/,/endscript/{//!p}' /etc/logrotate.d/rsttrace | sh -e
}

# Installed: neither enabled nor started. There is no service to tell of a rotation.
dpkg --install /older.deb
are enabled disabled
are active inactive
rotated
are active inactive

# Started: they trace within their sandboxes, until a start is complete.
systemctl enable --now $units
are active active
: <>/dev/tcp/127.0.0.1/9 || true
receives $log/resets.json port-closed
receives "$log/*.jsonl" port-closed
receives "$log/*.jsonl" trial.service
journalctl --sync
journalctl --unit=rsttrace.service | grep --quiet port-closed
exec 3<>/dev/tcp/127.0.0.1/9477
# Their capabilities are enough for the table of tracked connections, where the kernel shows it.
if rsttrace doctor | grep --quiet '^ok .*\[conntrack\]'; then
	! journalctl --unit='rsttrace*' | grep 'the other side of translated connections is not known' || false
fi
printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
grep --quiet '^HTTP/1.[01] 200' <&3

# Reloaded: the same processes, and a second segment of the recording.
before=$(pids)
systemctl reload $units
: <>/dev/tcp/127.0.0.1/9 || true
timeout 60 sh -c "until test \$(ls $log/*.jsonl* | wc --lines) -ge 2; do sleep 0.1; done"
are active active
test "$before" = "$(pids)"

# Rotated: the same process, and a new file.
mv $log/resets.json $log/resets.json.1
rotated
timeout 60 bash -c "until grep --quiet port-closed $log/resets.json; do : <>/dev/tcp/127.0.0.1/9; sleep 0.1; done"
test "$before" = "$(pids)"

# Upgraded: other processes, with the new program.
dpkg --install --force-confold /current.deb
are active active
are enabled enabled
for pid in $(pids); do
	case "$before" in *"$pid"*) false ;; esac
	test "$(readlink /proc/$pid/exe)" = /usr/bin/rsttrace
done
test "$(systemctl show --value --property=NRestarts $units | grep .)" = "0
0"

# An upgrade whose configuration cannot be used: the package is installed, and the service says why it is not running.
printf 'outptu = "none"\n' >>/etc/rsttrace.toml
dpkg --install --force-confold /current.deb
test "$(systemctl is-active rsttrace.service)" = failed
journalctl --sync
journalctl --unit=rsttrace.service | grep --quiet outptu
rotated

# Removed: stopped and disabled.
dpkg --remove rsttrace
for unit in $units; do
	test "$(systemctl is-active $unit)" != active
done
test -z "$(find /etc/systemd -name 'rsttrace*')"
test -d $log
dpkg --purge rsttrace
test ! -e $log
test ! -e /etc/rsttrace.toml

set +x
echo passed
