#!/bin/bash
# Two gateways, one IPsec tunnel, real traffic, in four network namespaces:
#
#   h1 --- g1 ===== g2 --- h2   10.0.1.0/24 and fd01::/64 behind g1,
#                               10.0.2.0/24 and fd02::/64 behind g2
#
#   tools/demo.sh BUILD [CONFIG]     (root; "make demo" calls it)
#
# CONFIG is a configuration for both daemons, to try it with several workers, say.
# Everything it makes goes away with it, also when it fails. Ends with "demo: ok".
set -eu

build=$(realpath "${1:?usage: tools/demo.sh BUILD [CONFIG]}")
options=(${2:+--config "$2"})
xfrmd=$build/src/daemon/xfrmd
xfrmctl=$build/src/ctl/xfrmctl
xfrm_exec=$build/src/shim/xfrm-exec
id=xfrmd-demo-$$
work=$(mktemp -d /tmp/xfrmd-demo.XXXXXX)
started=$SECONDS
pids=()
v4=(192.0.2.1 192.0.2.2) v6=(2001:db8::1 2001:db8::2)
inner='net 10.0.0.0/8 or ip6 net fd00::/8'
# Keys of this run alone: 16 bytes of AES-128 and 4 of salt, for each family and way.
key() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }
k4=("$(key)" "$(key)") k6=("$(key)" "$(key)")

say() { printf '\n== %s\n' "$*"; }

fail() {
	printf 'demo: FAILED: %s\n' "$*" >&2
	for log in "$work"/*.log; do
		[ -s "$log" ] && sed "s|^|$(basename "$log" .log): |" "$log" | tail -n 20 >&2
	done
	exit 1
}

clean_up() {
	local status=$? pid ns
	trap - EXIT INT TERM
	for ns in g1 g2; do in_ns $ns "$xfrmctl" release >/dev/null 2>&1 || true; done
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	for ns in h1 g1 g2 h2; do ip netns del "$id-$ns" 2>/dev/null || true; done
	rm -rf "$work"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

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

# Wait until COMMAND succeeds, a minute at most.
wait_for() {
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
	ip -n "$id-$1" route add default via "$2"
	ip -n "$id-$1" route add default via "$3"
}

make_network() {
	local ns
	for ns in h1 g1 g2 h2; do
		ip netns add "$id-$ns"
		ip -n "$id-$ns" link set lo up
	done
	link h1 eth0 g1 lan
	link g1 wan g2 wan
	link g2 lan h2 eth0
	address h1 eth0 10.0.1.2/24 fd01::2/64
	address g1 lan 10.0.1.1/24 fd01::1/64
	address g1 wan "${v4[0]}/24" "${v6[0]}/64"
	address g2 wan "${v4[1]}/24" "${v6[1]}/64"
	address g2 lan 10.0.2.1/24 fd02::1/64
	address h2 eth0 10.0.2.2/24 fd02::2/64
	default_route h1 10.0.1.1 fd01::1
	default_route g1 "${v4[1]}" "${v6[1]}"
	default_route g2 "${v4[0]}" "${v6[0]}"
	default_route h2 10.0.2.1 fd02::1
	for ns in g1 g2; do
		in_ns $ns sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	done
}

start_xfrmd() { # NS
	background "xfrmd-$1" "$1" "$xfrmd" "${options[@]}"
	wait_for in_ns "$1" "$xfrmctl" status || fail "xfrmd in $1 does not answer"
}

ip_xfrm() { # NS ARGUMENT...: the unmodified tool, through the shim
	local ns=$1
	shift
	in_ns "$ns" "$xfrm_exec" ip xfrm "$@" || fail "ip xfrm $* (in $ns)"
}

add_sas() { # NS ADDR1 ADDR2 SPI1 SPI2 KEY1 KEY2
	ip_xfrm "$1" state add src "$2" dst "$3" proto esp spi "$4" reqid 1 mode tunnel \
		replay-window 64 aead 'rfc4106(gcm(aes))' "0x$6" 128
	ip_xfrm "$1" state add src "$3" dst "$2" proto esp spi "$5" reqid 1 mode tunnel \
		replay-window 64 aead 'rfc4106(gcm(aes))' "0x$7" 128
}

add_policies() { # NS LOCAL_NET REMOTE_NET LOCAL_ADDR REMOTE_ADDR
	ip_xfrm "$1" policy add src "$2" dst "$3" dir out \
		tmpl src "$4" dst "$5" proto esp reqid 1 mode tunnel
	ip_xfrm "$1" policy add src "$3" dst "$2" dir fwd \
		tmpl src "$5" dst "$4" proto esp reqid 1 mode tunnel
	ip_xfrm "$1" policy add src "$3" dst "$2" dir in \
		tmpl src "$5" dst "$4" proto esp reqid 1 mode tunnel
}

configure() {
	local ns
	for ns in g1 g2; do
		add_sas $ns "${v4[@]}" 0x1001 0x1002 "${k4[@]}"
		add_sas $ns "${v6[@]}" 0x2001 0x2002 "${k6[@]}"
	done
	add_policies g1 10.0.1.0/24 10.0.2.0/24 "${v4[@]}"
	add_policies g2 10.0.2.0/24 10.0.1.0/24 "${v4[1]}" "${v4[0]}"
	add_policies g1 fd01::/64 fd02::/64 "${v6[@]}"
	add_policies g2 fd02::/64 fd01::/64 "${v6[1]}" "${v6[0]}"
}

serve_iperf() {
	background iperf-server h2 iperf3 -s
	wait_for in_ns h2 bash -c 'ss -ltn | grep -q :5201' || fail "iperf3 does not listen"
}

gbits() { # ADDRESS SECONDS: one TCP stream from h1, in Gb/s
	in_ns h1 timeout 120 iperf3 -C cubic -J -c "$1" -t "$2" >"$work/iperf.json" ||
		fail "iperf3 to $1"
	python3 -c 'import json,sys
print("%.2f" % (json.load(open(sys.argv[1]))["end"]["sum_received"]["bits_per_second"] / 1e9))' \
		"$work/iperf.json"
}

start_capture() { # NAME FILTER: on the wire between the gateways
	background "$1" g1 tcpdump -n -U -i wan -w "$work/$1.pcap" "$2"
	wait_for grep -q 'listening on' "$work/$1.log" || fail "tcpdump does not start"
}

stop_last() { # what was started last
	local pid=${pids[-1]}
	unset 'pids[-1]'
	kill "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
}

esp_sa() { # FAMILY SRC DST SPI KEY: a row of tshark's table
	printf 'uat:esp_sa:"%s","%s","%s","%s","%s","0x%s","NULL",""' "${@:1:4}" \
		'AES-GCM with 16 octet ICV [RFC4106]' "$5"
}

# The packets in wire.pcap that tshark can decrypt with the keys and that then match FILTER.
decrypted() { # FILTER
	tshark -n -r "$work/wire.pcap" -o esp.enable_encryption_decode:TRUE \
		-o "$(esp_sa IPv4 "${v4[0]}" "${v4[1]}" 0x00001001 "${k4[0]}")" \
		-o "$(esp_sa IPv4 "${v4[1]}" "${v4[0]}" 0x00001002 "${k4[1]}")" \
		-o "$(esp_sa IPv6 "${v6[0]}" "${v6[1]}" 0x00002001 "${k6[0]}")" \
		-o "$(esp_sa IPv6 "${v6[1]}" "${v6[0]}" 0x00002002 "${k6[1]}")" \
		-Y "esp && ($1)" 2>"$work/tshark.log" | wc -l
}

count() { # PCAP FILTER
	tcpdump -n -r "$work/$1.pcap" "$2" 2>/dev/null | wc -l
}

ping_hosts() {
	local to size
	for to in 10.0.2.2 fd02::2; do
		for size in 56 1200; do
			in_ns h1 ping -q -c 3 -i 0.1 -W 60 -s $size $to >>"$work/ping.log" 2>&1 ||
				fail "ping -s $size $to"
		done
	done
}

[ "$(id -u)" = 0 ] || fail "network namespaces need root"
for program in "$xfrmd" "$xfrmctl" "$xfrm_exec"; do
	[ -x "$program" ] || fail "$program is not there: run make first"
done

say "Making the network: h1 - g1 = g2 - h2, MTU 1500 everywhere"
make_network
wait_for in_ns h1 ping -c 1 -W 1 10.0.2.2 || fail "no IPv4 between the hosts"
wait_for in_ns h1 ping -c 1 -W 1 fd02::2 || fail "no IPv6 between the hosts"
serve_iperf

say "Measuring it without IPsec (plain veth)"
plain4=$(gbits 10.0.2.2 2)
plain6=$(gbits fd02::2 2)

say "Starting xfrmd in both gateways"
start_xfrmd g1
start_xfrmd g2

say "Adding SAs and policies with the system's ip xfrm, through xfrm-exec"
configure
in_ns g1 "$xfrm_exec" ip xfrm policy list dir out | sed 's/^/   /'

say "Pinging from host to host and sending 4 MB by TCP, with the wire captured"
start_capture clear "$inner"
start_capture wire 'esp or icmp or icmp6'
ping_hosts
for to in 10.0.2.2 fd02::2; do
	in_ns h1 timeout 120 iperf3 -C cubic -c $to -n 4M >"$work/mb.log" 2>&1 || fail "4 MB to $to"
done
stop_last

say "Measuring through the tunnel"
ipsec4=$(gbits 10.0.2.2 3)
ipsec6=$(gbits fd02::2 3)
stop_last

say "Decrypting the capture with tshark and the SAs' keys"
esp4=$(count wire 'ip proto 50') esp6=$(count wire 'ip6 proto 50') clear=$(count clear '')
ping4=$(decrypted 'icmp') ping6=$(decrypted 'icmpv6.type in {128,129}')
tcp4=$(decrypted 'ip && tcp') tcp6=$(decrypted 'ipv6 && tcp')

say "Counters of xfrmd in g1"
in_ns g1 "$xfrmctl" stats | awk -F '\t' '/^\[/ || $2 > 0' | sed 's/^/   /'

say "What crossed the wire between the gateways"
printf '   %-34s %10s %10s\n' '' IPv4 IPv6
printf '   %-34s %10s %10s\n' 'ESP packets captured' "$esp4" "$esp6" \
	'  of them echo, decrypted by tshark' "$ping4" "$ping6" \
	'  of them TCP, decrypted by tshark' "$tcp4" "$tcp6" \
	'Gb/s, TCP, plain veth' "$plain4" "$plain6" \
	'Gb/s, TCP, through the tunnel' "$ipsec4" "$ipsec6"
printf '   %-34s %10s\n' 'inner packets in clear' "$clear" \
	'seconds, all in all' $((SECONDS - started))

[ "$clear" = 0 ] || fail "$clear packets crossed in clear"
[ "$ping4" = 12 ] && [ "$ping6" = 12 ] ||
	fail "12 echo packets of each family should be decrypted"
# iperf3 ends the test while the last of it is still under way.
[ "$tcp4" -ge 700 ] && [ "$tcp6" -ge 700 ] ||
	fail "at least 1 MB of TCP of each family should be decrypted"
printf '\ndemo: ok\n'
