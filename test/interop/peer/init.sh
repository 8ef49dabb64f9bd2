#!/bin/sh
# Process 1 of the kernel peer: prepares it, then runs the scripts whose ids it reads from its
# console. PEER_DIR and PEER_CACHE come from the kernel's command line.
export PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /run/bin /run/peer
mount -t hostfs -o "$PEER_DIR" hostfs /run/peer # the one place that may be written
printf '#!/bin/sh\nexec /sbin/modprobe -d "%s/root" "$@"\n' "$PEER_CACHE" >/run/bin/modprobe
chmod 755 /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe
for module in ipv6 xfrm_user esp4 esp6; do
	modprobe $module
done
# Duplicate address detection would keep a new address unusable for a second.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
echo 0 >/proc/sys/net/ipv6/conf/vec0/accept_dad
ip link set lo up
ip link set vec0 up
stty -echo
: >/run/peer/up

run_script() {
	sh "/run/peer/script.$1" >"/run/peer/output.$1" 2>&1 </dev/null
	status=$?
	sync "/run/peer/output.$1"
	echo $status >"/run/peer/status.$1.new"
	mv "/run/peer/status.$1.new" "/run/peer/status.$1"
}

while read -r id && [ "$id" != off ]; do
	run_script "$id" &
done
sync
: >/run/peer/down
sleep 99
