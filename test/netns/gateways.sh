# gateways.sh - for tests that source it: h1 - g1 = g2 - h2, xfrmd in the gateways, TAP.
#
# Behind g1 are 10.0.1.0/24 and fd01::/64, behind g2 10.0.2.0/24 and fd02::/64; the gateways are
# 192.0.2.1, 2001:db8::1 and .2, ::2 on "wan". $build, $id and $work are set; everything goes away
# when the test ends, however it ends.
set -u

build=$(realpath "${1:?usage: $0 BUILD}")
id=xfrmd-$(basename "$0")-$$
work=$(mktemp -d "/tmp/$id.XXXXXX")
tests=0
failed=0
declare -A daemon=()
pids=()

skip_all() {
	echo "skip: $*"
	exit 77
}

clean_up() {
	local status=$? pid ns
	trap - EXIT INT TERM
	for ns in g1 g2; do ctl $ns release >/dev/null 2>&1; done
	for pid in "${pids[@]}" "${daemon[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${pids[@]}" "${daemon[@]}"; do wait "$pid" 2>/dev/null; done
	for ns in h1 g1 g2 h2; do ip netns del "$id-$ns" 2>/dev/null; done
	rm -rf "$work"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

[ "$(id -u)" = 0 ] || skip_all "network namespaces need root"
[ -c /dev/net/tun ] || skip_all "there is no /dev/net/tun"

ok() { # STATUS NAME
	tests=$((tests + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tests - $2"
	else
		failed=$((failed + 1))
		echo "not ok $tests - $2"
	fi
}

equal() { # GOT WANTED NAME
	[ "$1" = "$2" ]
	ok $? "$3"
	[ "$1" = "$2" ] || echo "# got $1, wanted $2"
}

at_least() { # GOT WANTED NAME
	[ "$1" -ge "$2" ]
	ok $? "$3"
	[ "$1" -ge "$2" ] || echo "# got $1, wanted at least $2"
}

# What tcpdump has seen is in its file a little later: wait for so many at least.
captured() { # PCAP FILTER COUNT NAME
	wait_for eval "[ \"\$(tcpdump -n -r '$work/$1.pcap' '$2' 2>/dev/null | wc -l)\" -ge $3 ]"
	at_least "$(tcpdump -n -r "$work/$1.pcap" "$2" 2>/dev/null | wc -l)" "$3" "$4"
}

finish() {
	echo "1..$tests"
	if [ "$failed" -gt 0 ]; then
		sed 's/^/# /' "$work"/xfrmd-*.log "$work/seen"
	fi
	exit $((failed > 0))
}

in_ns() { # NS COMMAND...
	local ns=$1
	shift
	ip netns exec "$id-$ns" "$@"
}

background() { # LOG NS COMMAND...: its pid is the last of pids
	local log=$work/$1.log ns=$2
	shift 2
	ip netns exec "$id-$ns" "$@" >"$log" 2>&1 &
	pids+=($!)
}

wait_for() { # COMMAND...: until it succeeds, a minute at most: how fast is not the matter
	local end=$((SECONDS + 60))
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

link() { # NS DEV NS DEV
	ip link add "$2" netns "$id-$1" type veth peer name "$4" netns "$id-$3"
	ip -n "$id-$1" link set "$2" up
	ip -n "$id-$3" link set "$4" up
}

address() { # NS DEV IPV4 IPV6
	ip -n "$id-$1" addr add "$3" dev "$2"
	ip -n "$id-$1" addr add "$4" dev "$2" nodad
}

default_route() { # NS IPV4 IPV6
	ip -n "$id-$1" route replace default via "$2"
	ip -n "$id-$1" route replace default via "$3"
}

make_network() {
	local ns
	for ns in h1 g1 g2 h2; do
		ip netns add "$id-$ns"
		# Link-local addresses wait for each other before neighbours are asked.
		ip netns exec "$id-$ns" sysctl -qw net.ipv6.conf.all.accept_dad=0 \
			net.ipv6.conf.default.accept_dad=0
		ip -n "$id-$ns" link set lo up
	done
	link h1 eth0 g1 lan
	link g1 wan g2 wan
	link g2 lan h2 eth0
	address h1 eth0 10.0.1.2/24 fd01::2/64
	address g1 lan 10.0.1.1/24 fd01::1/64
	address g1 wan 192.0.2.1/24 2001:db8::1/64
	address g2 wan 192.0.2.2/24 2001:db8::2/64
	address g2 lan 10.0.2.1/24 fd02::1/64
	address h2 eth0 10.0.2.2/24 fd02::2/64
	default_route h1 10.0.1.1 fd01::1
	default_route g1 192.0.2.2 2001:db8::2
	default_route g2 192.0.2.1 2001:db8::1
	default_route h2 10.0.2.1 fd02::1
	for ns in g1 g2; do
		in_ns $ns sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	done
}

ctl() { # NS VERB...
	local ns=$1
	shift
	in_ns "$ns" "$build/src/ctl/xfrmctl" "$@"
}

ip_xfrm() { # NS ARGUMENT...
	local ns=$1
	shift
	in_ns "$ns" "$build/src/shim/xfrm-exec" ip xfrm "$@"
}

start_xfrmd() { # NS OPTION...
	ip netns exec "$id-$1" "$build/src/daemon/xfrmd" "${@:2}" >>"$work/xfrmd-$1.log" 2>&1 &
	daemon[$1]=$!
	wait_for ctl "$1" status || {
		echo "Bail out! xfrmd in $1 does not answer"
		sed 's/^/# /' "$work/xfrmd-$1.log"
		exit 1
	}
}

end_xfrmd() { # NS SIGNAL
	kill "-$2" "${daemon[$1]}"
	wait "${daemon[$1]}" 2>/dev/null
	unset "daemon[$1]"
}

add_sas() { # NS ADDR1 ADDR2 SPI1 SPI2
	local key=0x000102030405060708090a0b0c0d0e0f10111213
	ip_xfrm "$1" state add src "$2" dst "$3" proto esp spi "$4" reqid 1 mode tunnel \
		replay-window 64 aead 'rfc4106(gcm(aes))' $key 128
	ip_xfrm "$1" state add src "$3" dst "$2" proto esp spi "$5" reqid 1 mode tunnel \
		replay-window 64 aead 'rfc4106(gcm(aes))' $key 128
}

add_policies() { # NS LOCAL_NET REMOTE_NET LOCAL_ADDR REMOTE_ADDR
	local dir
	ip_xfrm "$1" policy add src "$2" dst "$3" dir out \
		tmpl src "$4" dst "$5" proto esp reqid 1 mode tunnel
	for dir in fwd in; do
		ip_xfrm "$1" policy add src "$3" dst "$2" dir $dir \
			tmpl src "$5" dst "$4" proto esp reqid 1 mode tunnel
	done
}

configure() { # NS
	if [ "$1" = g1 ]; then
		add_policies g1 10.0.1.0/24 10.0.2.0/24 192.0.2.1 192.0.2.2
		add_policies g1 fd01::/64 fd02::/64 2001:db8::1 2001:db8::2
	else
		add_policies g2 10.0.2.0/24 10.0.1.0/24 192.0.2.2 192.0.2.1
		add_policies g2 fd02::/64 fd01::/64 2001:db8::2 2001:db8::1
	fi
	configure_sas "$1"
}

configure_sas() { # NS
	add_sas "$1" 192.0.2.1 192.0.2.2 0x1001 0x1002
	add_sas "$1" 2001:db8::1 2001:db8::2 0x2001 0x2002
}

# Capture on DEV of g1 what must not be seen there: anything between inner addresses.
watch_clear() { # DEV
	background "clear-$1" g1 tcpdump -n -U --immediate-mode -i "$1" -w "$work/clear-$1.pcap" \
		'(src net 10.0.0.0/8 and dst net 10.0.0.0/8) or
		 (ip6 src net fd00::/8 and ip6 dst net fd00::/8)'
	wait_for grep -q 'listening on' "$work/clear-$1.log"
}

clear_seen() { # DEV
	tcpdump -n -r "$work/clear-$1.pcap" 2>/dev/null | tee "$work/seen" | wc -l
}

received() { # LOG: replies that a ping has had
	grep -c 'bytes from' "$work/$1.log" 2>/dev/null
}

flows() { # LOG: do replies still come?
	local before
	before=$(received "$1")
	wait_for eval "[ \$(received $1) -gt $((before + 3)) ]"
}

counter() { # NS NAME: packets of the nftables counter
	in_ns "$1" nft list counter inet xfrmd "$2" | sed -n 's/.*packets \([0-9]*\).*/\1/p'
}

tun_dropped() { # NS: what the TUN threw away because nobody read
	in_ns "$1" cat /sys/class/net/xfrmd0/statistics/tx_dropped
}
