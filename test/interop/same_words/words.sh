#!/bin/sh
# One script of `ip xfrm` commands, for the kernel and for xfrmd alike; same_words.py runs it on
# both and compares. Each command is shown, then what it printed, then its exit status.
work=$(mktemp -d "${TMPDIR:-/tmp}/words.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

x() {
	echo ">>> ip $*"
	ip "$@" 2>&1
	echo "<<< $?"
}
sa() { x xfrm state "$@"; }
pol() { x xfrm policy "$@"; }
show() {
	sa list
	pol list
	x -s xfrm state list
	x -s xfrm policy list
	x xfrm state count
	x xfrm policy count
}
clear() {
	sa flush
	pol flush
}

key() { # BYTES: 0x0102…, never the same byte twice in a row
	printf 0x
	i=1
	while [ "$i" -le "$1" ]; do
		printf '%02x' $((i & 255))
		i=$((i + 1))
	done
}
K16=$(key 16) K19=$(key 19) K20=$(key 20) K24=$(key 24) K28=$(key 28) K32=$(key 32)
K36=$(key 36) K48=$(key 48) K64=$(key 64)
ENDS="src 10.0.0.1 dst 10.0.0.2 proto esp"
ENDS6="src fc00::1 dst fc00::2 proto esp"
CBC="enc cbc(aes) $K16 auth-trunc hmac(sha256) $K32 128"
SPI=1000
next() { SPI=$((SPI + 1)); }

algorithms() {
	for icv in 64 96 128; do
		for k in "$K20" "$K28" "$K36"; do
			next; sa add $ENDS spi $SPI mode tunnel aead 'rfc4106(gcm(aes))' $k $icv
		done
		next; sa add $ENDS spi $SPI mode tunnel aead 'rfc4309(ccm(aes))' $K19 $icv
	done
	next; sa add $ENDS spi $SPI mode tunnel aead 'rfc4543(gcm(aes))' $K20 128
	next; sa add $ENDS spi $SPI mode tunnel aead 'rfc7539esp(chacha20,poly1305)' $K36 128
	for hash in sha1:$K20:96 sha256:$K32:96 sha256:$K32:128 sha384:$K48:192 sha512:$K64:256; do
		name=${hash%%:*} rest=${hash#*:}
		for k in $K16 $K24 $K32; do
			next; sa add $ENDS spi $SPI mode tunnel enc 'cbc(aes)' $k \
				auth-trunc "hmac($name)" "${rest%:*}" "${rest#*:}"
		done
		next; sa add $ENDS spi $SPI mode tunnel enc 'ecb(cipher_null)' '' \
			auth-trunc "hmac($name)" "${rest%:*}" "${rest#*:}"
	done
	for k in $K20 $K28 $K36; do
		next; sa add $ENDS spi $SPI mode tunnel enc 'rfc3686(ctr(aes))' $k \
			auth 'hmac(sha1)' $K20
	done
	# Aliases, and a hash without truncation length.
	next; sa add $ENDS spi $SPI mode tunnel enc aes $K16 auth sha1 $K20
	next; sa add $ENDS spi $SPI mode tunnel enc cipher_null '' auth sha256 $K32
	next; sa add $ENDS spi $SPI mode tunnel enc 'cbc(aes)' $K16 auth digest_null ''
	next; sa add $ENDS spi $SPI mode tunnel enc 'cbc(aes)' $K16
	show
	clear
}

modes() {
	next; sa add $ENDS spi $SPI mode transport $CBC
	next; sa add $ENDS6 spi $SPI mode transport $CBC
	next; sa add $ENDS6 spi $SPI mode tunnel $CBC
	next; sa add $ENDS spi $SPI mode tunnel $CBC sel src fc00:1::/64 dst fc00:2::/48
	next; sa add $ENDS6 spi $SPI mode tunnel $CBC sel src 10.1.0.0/16 dst 10.2.0.0/24
	next; sa add $ENDS spi $SPI mode transport $CBC \
		sel src 10.0.0.1 dst 10.0.0.2 proto udp sport 1 dport 2
	next; sa add $ENDS spi $SPI mode tunnel $CBC \
		sel src 10.1.0.0/16 dst 10.2.0.0/16 proto icmp type 8 code 0 dev lo
	next; sa add $ENDS spi $SPI mode tunnel $CBC flag af-unspec
	show
	clear
}

options() {
	next; sa add $ENDS spi $SPI mode tunnel encap espinudp 4500 4501 0.0.0.0 $CBC
	next; sa add $ENDS spi $SPI mode transport encap espinudp 4500 4500 1.2.3.4 $CBC
	next; sa add $ENDS spi $SPI mode tunnel mark 0x12 mask 0xff $CBC
	next; sa add $ENDS spi $SPI mode tunnel mark 0x12 $CBC
	next; sa add $ENDS spi $SPI mode tunnel if_id 0x42 $CBC
	next; sa add $ENDS spi $SPI mode tunnel output-mark 0x7 mask 0xf0f $CBC
	next; sa add $ENDS spi $SPI mode tunnel output-mark 0x7 $CBC
	next; sa add $ENDS spi $SPI mode tunnel tfcpad 1400 $CBC
	next; sa add $ENDS spi $SPI mode tunnel reqid 77 seq 0x1234 $CBC
	next; sa add $ENDS spi $SPI mode tunnel coa 10.9.9.9 $CBC
	for flag in noecn decap-dscp nopmtudisc wildrecv icmp af-unspec align4; do
		next; sa add $ENDS spi $SPI mode tunnel flag $flag $CBC
	done
	next; sa add $ENDS spi $SPI mode tunnel flag noecn decap-dscp icmp $CBC
	next; sa add $ENDS spi $SPI mode tunnel extra-flag dont-encap-dscp $CBC
	next; sa add $ENDS spi $SPI mode tunnel extra-flag dont-encap-dscp oseq-may-wrap $CBC
	for window in 1 31 32 33 64 1024 4096; do
		next; sa add $ENDS spi $SPI mode tunnel replay-window $window $CBC
		next; sa add $ENDS spi $SPI mode tunnel replay-window $window flag esn $CBC
	done
	next; sa add $ENDS spi $SPI mode tunnel replay-window 32 replay-seq 0x64 \
		replay-oseq 0x32 $CBC
	next; sa add $ENDS spi $SPI mode tunnel replay-window 32 flag esn \
		replay-seq 5 replay-seq-hi 1 replay-oseq 6 replay-oseq-hi 2 $CBC
	next; sa add $ENDS spi $SPI mode tunnel \
		limit byte-soft 1000 limit byte-hard 2000 limit packet-soft 10 \
		limit packet-hard 20 limit time-soft 3000 limit time-hard 4000 \
		limit time-use-soft 50 limit time-use-hard 60 $CBC
	show
	clear
}

change_states() {
	sa add $ENDS spi 0x500 mode tunnel reqid 1 $CBC
	sa add $ENDS spi 0x500 mode tunnel reqid 1 $CBC
	sa add $ENDS spi 0x500 mode tunnel if_id 3 $CBC
	sa add $ENDS spi 0x500 mode tunnel mark 1 mask 1 $CBC
	sa add $ENDS6 spi 0x500 mode tunnel $CBC
	sa get $ENDS spi 0x500
	sa get $ENDS spi 0x500 mark 1 mask 1
	sa get $ENDS6 spi 0x500
	sa get $ENDS spi 0x501
	sa update $ENDS spi 0x500 mode tunnel reqid 9 limit byte-hard 5000 output-mark 3 $CBC
	sa update $ENDS spi 0x500 mode tunnel encap espinudp 1 2 0.0.0.0 $CBC
	sa update $ENDS spi 0x501 mode tunnel $CBC
	sa get $ENDS spi 0x500
	sa delete $ENDS spi 0x500
	sa delete $ENDS spi 0x500 mark 1 mask 1
	sa delete $ENDS spi 0x501
	show
	sa deleteall src 10.0.0.1
	sa list
	# SPIs that are reserved on the wire.
	for spi in 0 1 255 256; do
		sa add $ENDS spi $spi mode tunnel $CBC
		sa get $ENDS spi $spi
		sa delete $ENDS spi $spi
	done
	clear
}

allocate() {
	sa allocspi $ENDS mode tunnel reqid 4 min 0x600 max 0x600
	sa allocspi $ENDS mode tunnel reqid 5 min 0x600 max 0x600
	sa allocspi $ENDS mode tunnel reqid 6 min 7 max 7
	sa allocspi $ENDS mode transport reqid 6 mark 5 mask 7 min 0x601 max 0x601
	sa allocspi $ENDS6 mode tunnel seq 0x77 min 0x602 max 0x602
	sa list
	sa get $ENDS spi 0x600
	sa update $ENDS spi 0x600 mode tunnel reqid 4 $CBC
	sa add $ENDS6 spi 0x602 mode tunnel $CBC
	sa update $ENDS6 spi 0x602 mode tunnel seq 0x77 $CBC
	show
	clear
	sa allocspi $ENDS mode tunnel min 9 max 8
	sa list
}

filters() {
	for n in 1 2 3; do
		sa add src 10.0.$n.1 dst 10.0.0.2 proto esp spi $n mode tunnel reqid $n $CBC
		sa add src fc00::$n dst fc00::2 proto esp spi 1$n mode tunnel reqid $n $CBC
	done
	sa list src 10.0.1.1
	sa list src 10.0.0.0/16 dst 10.0.0.2
	sa list src 10.0.2.0/23
	x -6 xfrm state list
	x -4 xfrm state list
	sa list proto esp
	sa list proto ah
	sa list reqid 2
	sa list spi 3
	sa list mode transport
	sa list nokeys
	sa deleteall src 10.0.1.1
	sa deleteall proto esp dst fc00::2
	sa list
	sa flush proto ah
	sa list
	sa flush proto esp
	sa list
}

policies() {
	for dir in in out fwd; do
		pol add src 10.1.0.0/16 dst 10.2.0.0/16 dir $dir
		pol add src 10.1.0.0/16 dst 10.2.0.0/16 dir $dir
		pol add src fc00:1::/64 dst fc00:2::/64 dir $dir priority 7 \
			tmpl src fc00::1 dst fc00::2 proto esp mode tunnel reqid 1
	done
	pol add src 10.1.0.0/16 dst 10.2.1.0/24 dir out action block priority 10
	pol add src 10.1.0.0/16 dst 10.2.2.0/24 dir out flag localok priority 10
	pol add src 10.1.0.0/16 dst 10.2.2.0/25 dir out flag localok icmp
	pol add src 10.1.0.0/16 dst 10.2.3.0/24 proto tcp sport 1 dport 2 dir out
	pol add src 10.1.0.0/16 dst 10.2.3.0/24 proto icmp type 8 code 0 dir out
	pol add src 10.1.0.0/16 dst 10.2.3.0/24 proto gre key 5 dir out
	pol add src 10.1.0.0/16 dst 10.2.3.0/24 dev lo dir out
	pol add src 10.1.0.0/16 dst 10.2.4.0/24 dir out mark 3 mask 7
	pol add src 10.1.0.0/16 dst 10.2.4.0/24 dir out if_id 9
	pol add src 10.1.0.0/16 dst 10.2.4.0/24 dir out ptype sub
	pol add src 10.1.0.0/16 dst 10.2.5.0/24 dir out index 801
	pol add src 10.1.0.0/16 dst 10.2.5.0/24 dir in index 801
	pol add src 10.1.0.0/16 dst 10.2.6.0/24 dir out limit byte-soft 5 limit time-hard 500
	pol add src 10.1.0.0/16 dst 10.2.7.0/24 dir out \
		tmpl src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x99 mode tunnel reqid 5 level use
	pol add src 10.1.0.0/16 dst 10.2.7.0/24 dir in \
		tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel reqid 5 level use
	pol add src 10.1.0.0/16 dst 10.2.8.0/24 dir out \
		tmpl src 10.0.0.1 dst 10.0.0.2 proto comp mode tunnel reqid 5 \
		tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode transport reqid 6 \
		tmpl src 10.0.0.1 dst 10.0.0.2 proto ah mode transport reqid 7
	pol add src 10.1.0.0/16 dst 10.2.9.0/24 dir out \
		tmpl src fc00::1 dst fc00::2 proto esp mode tunnel reqid 5
	show
	pol list dir in
	pol list dir out src 10.1.0.0/16 dst 10.2.4.0/24
	pol list priority 7
	pol list ptype sub
	pol list action block
}

change_policies() {
	pol update src 10.1.0.0/16 dst 10.2.0.0/16 dir out priority 99
	pol update src 10.1.0.0/16 dst 10.2.99.0/24 dir out
	pol get src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	pol get src 10.1.0.0/16 dst 10.2.4.0/24 dir out
	pol get src 10.1.0.0/16 dst 10.2.4.0/24 dir out mark 3 mask 7
	pol get src 10.1.0.0/16 dst 10.2.4.0/24 dir out mark 3 mask 3
	pol get src 10.1.0.0/16 dst 10.2.4.0/24 dir out if_id 9
	pol get src 10.1.0.0/16 dst 10.2.4.0/24 dir out ptype sub
	pol get dir out index 801
	pol get dir in index 801
	pol get dir out index 809
	pol delete dir out index 801
	pol delete dir out index 801
	pol delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	pol delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	pol delete src 10.1.0.0/16 dst 10.2.4.0/24 dir out if_id 8
	pol delete src 10.1.0.0/16 dst 10.2.4.0/24 dir out if_id 9
	pol list
	pol deleteall dir fwd
	pol deleteall src 10.1.0.0/16 dst 10.2.3.0/24
	pol list
	pol flush ptype sub
	pol list
	pol flush
	pol flush
	show
	pol setdefault in accept out accept
	pol getdefault
	pol set hthresh4 24 16 hthresh6 64 56
	x -s xfrm policy count
	pol set hthresh4 33 16
	pol set hthresh4 32 32 hthresh6 128 128
}

bad() {
	sa add $ENDS spi 1 mode tunnel enc 'cbc(foo)' $K16 auth 'hmac(sha1)' $K20
	sa add $ENDS spi 1 mode tunnel enc 'cbc(aes)' $K16 auth 'hmac(foo)' $K20
	sa add $ENDS spi 1 mode tunnel enc 'cbc(aes)' $K16 auth-trunc 'hmac(foo)' $K20 96
	sa add $ENDS spi 1 mode tunnel aead 'rfc4106(foo)' $K20 128
	sa add $ENDS spi 1 mode tunnel aead 'rfc4106(gcm(aes))' $K20 100
	sa add $ENDS spi 1 mode tunnel aead 'rfc4106(gcm(aes))' $K19 128
	sa add $ENDS spi 1 mode tunnel aead 'rfc4309(ccm(aes))' $K20 128
	sa add $ENDS spi 1 mode tunnel aead 'rfc7539esp(chacha20,poly1305)' $K20 128
	sa add $ENDS spi 1 mode tunnel enc 'cbc(aes)' $K19
	sa add $ENDS spi 1 mode tunnel enc 'cbc(aes)' $K20 auth 'hmac(sha1)' $K20
	sa add $ENDS spi 1 mode tunnel enc 'rfc3686(ctr(aes))' $K16 auth 'hmac(sha1)' $K20
	sa add $ENDS spi 1 mode tunnel enc 'cbc(aes)' $K16 auth-trunc 'hmac(sha1)' $K20 161
	sa add $ENDS spi 1 mode tunnel enc 'cbc(aes)' $K16 auth-trunc 'hmac(sha1)' $K20 4
	sa add $ENDS spi 1 mode transport tfcpad 9 $CBC
	sa add $ENDS spi 1 mode transport $CBC sel src fc00::/64 dst fc00::/64
	sa add $ENDS spi 1 mode tunnel encap espintcp 1 2 0.0.0.0 $CBC
	sa delete $ENDS spi 1
	sa get $ENDS spi 1
	pol delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	pol get src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	pol add src 10.1.0.0/16 dst 10.2.0.0/16 dir out index 8
	pol add src 10.1.0.0/16 dst 10.2.0.0/16 dir out \
		tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel level use
	pol add src 10.1.0.0/16 dst 10.2.0.0/16 dir in \
		tmpl src fc00::1 dst fc00::2 proto esp mode transport
	show
	clear
}

# What a 6.1 kernel with all its modules has, and we (or 6.18) have not: see "allowed".
differences() {
	sa add $ENDS spi 0x700 mode beet $CBC
	sa delete $ENDS spi 0x700
	sa add $ENDS spi 0x701 mode tunnel encap espinudp-nonike 4500 4500 0.0.0.0 $CBC
	sa delete $ENDS spi 0x701
	sa add src 10.0.0.1 dst 10.0.0.2 proto ah spi 0x702 mode tunnel auth 'hmac(sha1)' $K20
	sa delete src 10.0.0.1 dst 10.0.0.2 proto ah spi 0x702
	pol setdefault out block
	pol setdefault out accept
	pol getdefault
}

heard() { # WORDS: has the monitor?
	grep -q "$1" "$work/events"
}

wait_to_hear() { # WORDS: a minute at most
	tries=300
	until heard "$1" || [ $tries = 0 ]; do
		tries=$((tries - 1))
		sleep 0.2
	done
}

watch() {
	echo ">>> ip xfrm monitor"
	ip xfrm monitor all >"$work/events" 2>&1 &
	monitor=$!
	until heard "Flushed state"; do
		ip xfrm state add $ENDS spi 0x7ff mode tunnel $CBC
		ip xfrm state flush
		sleep 0.1
	done
	ip xfrm policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	ip xfrm policy flush
	wait_to_hear "Flushed policy"
	ip xfrm state add $ENDS spi 0x800 mode tunnel $CBC
	ip xfrm state update $ENDS spi 0x800 mode tunnel limit byte-hard 99 $CBC
	ip xfrm state delete $ENDS spi 0x800
	ip xfrm state add $ENDS spi 0x800 mode tunnel $CBC
	ip xfrm state flush
	ip xfrm state flush
	ip xfrm policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	ip xfrm policy update src 10.1.0.0/16 dst 10.2.0.0/16 dir out priority 5
	ip xfrm policy delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	ip xfrm policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir out
	ip xfrm policy flush
	ip xfrm state add $ENDS spi 0x801 mode tunnel limit time-soft 1 limit time-hard 2 $CBC
	wait_to_hear "hard 1"
	kill $monitor
	wait $monitor 2>/dev/null
	# From where it is sure to have heard all.
	sed '1,/^Flushed policy/d' "$work/events"
	echo "<<< 0"
	show
}

algorithms
modes
options
change_states
allocate
filters
policies
change_policies
bad
differences
watch
