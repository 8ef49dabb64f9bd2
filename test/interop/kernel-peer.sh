#!/bin/bash
# A real Linux kernel as IPsec peer: Debian's user-mode-linux (6.1, with ESP and XFRM), one process,
# no privileges over the host's kernel beyond a tap device in a network namespace.
#
#   kernel-peer.sh setup                        fetch and prepare it (once; needs apt)
#   kernel-peer.sh start NAME NETNS TAP [MAC]   boot; NETNS and TAP are made if they are missing
#   kernel-peer.sh exec  NAME SCRIPT [SECONDS]  run SCRIPT in the peer: its output, its exit status
#   kernel-peer.sh stop  NAME                   power off and remove what start made
#   kernel-peer.sh run   NETNS TAP SCRIPT [SECONDS]    start, exec, stop
#
# In the peer the tap is "vec0", the host's files are visible read-only, /run is its own.
# Exit status 125: the peer itself failed (a sentence says how); 77 from setup: cannot be had here.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cache=${XFRMD_PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xfrmd/kernel-peer}
running=${XFRMD_PEER_RUN:-$cache.run}
version=1 # of what setup makes; a new number makes it again
export PATH=$PATH:/usr/sbin:/sbin

fail() {
	echo "kernel-peer: $*" >&2
	exit 125
}

setup() {
	[ "$(cat "$cache/version" 2>/dev/null)" = "$version" ] && return 0
	if [ "$(dpkg --print-architecture)" != amd64 ]; then
		echo "skip: user-mode-linux exists for amd64 only"
		return 77
	fi
	rm -rf "$cache" && mkdir -p "$cache" && cd "$cache" || fail "cannot make $cache"
	# Not installed, only unpacked: it must not get in the way of the host's own kernel tools.
	if ! apt-get -q=2 -o APT::Sandbox::User=root download user-mode-linux >download.log 2>&1
	then
		echo "skip: apt-get download user-mode-linux: $(tail -1 download.log)"
		return 77
	fi
	dpkg-deb -x user-mode-linux_*.deb package && rm user-mode-linux_*.deb || fail "unpacking"
	gcc -O2 -Wall -shared -fPIC -o ptrace_shim.so "$here/peer/ptrace_shim.c" || fail "compiling"
	# modprobe in the peer reads ROOT/lib/modules/RELEASE.
	mkdir -p root/lib && mv package/usr/lib/uml/modules root/lib/modules &&
		depmod -b "$cache/root" "$(ls root/lib/modules)" || fail "depmod"
	echo "$version" >version
}

# Alive, and not a zombie that nobody waited for.
alive() {
	local state
	state=$(cat "$dir/pid" 2>/dev/null) || return 1
	state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$state/status" 2>/dev/null)
	[ -n "$state" ] && [[ $state != [ZX] ]]
}

# Until FILE is there: 0; the peer died: 1; SECONDS are over: 2.
await() {
	local file=$1 end=$((SECONDS + $2))
	until [ -e "$file" ]; do
		alive || return 1
		[ "$SECONDS" -lt "$end" ] || return 2
		sleep 0.02
	done
}

make_link() { # NETNS TAP
	if ! ip netns exec "$1" true 2>/dev/null; then
		ip netns add "$1" && ip -n "$1" link set lo up || fail "cannot make namespace $1"
		echo "$1" >"$dir/netns"
	fi
	if ! ip -n "$1" link show "$2" >/dev/null 2>&1; then
		ip -n "$1" tuntap add "$2" mode tap || fail "cannot make tap $2"
		echo "$1 $2" >"$dir/tap"
	fi
	ip -n "$1" link set "$2" up
}

start() { # NAME NETNS TAP [MAC]
	local mac=${4:-}
	[ -z "$mac" ] && mac=$(printf '02:78:66:%02x:%02x:%02x' \
		$((RANDOM & 255)) $((RANDOM & 255)) $((RANDOM & 255)))
	[ -e "$cache/version" ] || fail "run setup first"
	mkdir -p "$running" && mkdir "$dir" 2>/dev/null || fail "a peer named $1 exists"
	make_link "$2" "$3"
	mkfifo "$dir/control"
	# setsid: stop ends this group and nothing else.
	LD_PRELOAD=$cache/ptrace_shim.so setsid ip netns exec "$2" \
		"$cache/package/usr/bin/linux.uml" mem="${XFRMD_PEER_MEM:-256M}" quiet \
		rootfstype=hostfs rootflags=/ ro init="$here/peer/init.sh" \
		"vec0:transport=tap,ifname=$3,mac=$mac,depth=64" con=null con0=fd:0,fd:1 ssl=null \
		uml_dir="$dir/" umid=uml "PEER_DIR=$dir" "PEER_CACHE=$cache" \
		<>"$dir/control" >"$dir/console" 2>&1 &
	echo $! >"$dir/pid"
	if ! await "$dir/up" 60; then
		tail -30 "$dir/console" >&2
		stop
		fail "the peer did not boot"
	fi
}

execute() { # NAME SCRIPT [SECONDS]
	local id=$$-$RANDOM got
	alive || fail "peer $1 is not running"
	cp "$2" "$dir/script.$id" || fail "cannot read $2"
	echo "$id" 1<>"$dir/control"
	await "$dir/status.$id" "${3:-60}"
	got=$?
	cat "$dir/output.$id" 2>/dev/null
	case $got in
	1)
		tail -30 "$dir/console" >&2
		fail "the peer died"
		;;
	2) fail "no end after ${3:-60} s" ;;
	esac
	return "$(cat "$dir/status.$id")"
}

stop() {
	local pid netns tap
	pid=$(cat "$dir/pid" 2>/dev/null)
	if alive; then
		echo off 1<>"$dir/control"
		await "$dir/down" 3
	fi
	[ -n "$pid" ] && kill -KILL -- "-$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	if [ -e "$dir/tap" ]; then
		read -r netns tap <"$dir/tap"
		ip -n "$netns" link del "$tap" 2>/dev/null
	fi
	[ -e "$dir/netns" ] && ip netns del "$(cat "$dir/netns")"
	rm -rf "$dir"
}

run() { # NETNS TAP SCRIPT [SECONDS]
	local name=run-$$
	dir=$running/$name
	trap stop EXIT
	trap 'exit 130' INT TERM HUP
	start "$name" "$1" "$2"
	execute "$name" "$3" "${4:-60}"
	exit $?
}

verb=${1:-help}
[ $# -gt 0 ] && shift
dir=$running/${1:-none}
case $verb in
setup) setup ;;
start) start "$@" ;;
exec) execute "$@" ;;
stop) stop ;;
run) run "$@" ;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
	exit 125
	;;
esac
