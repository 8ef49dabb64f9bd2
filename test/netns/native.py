#!/usr/bin/env python3
"""Native ESP by packet sockets: the frames of raw sockets, and only where nobody would notice.

What a raw socket would be subject to must hold all the same: neighbours that change, firewalls,
tc, devices that go down, MTUs.
"""
import ctypes
import os
import signal
import socket
import subprocess
import time

from xfrmd import (DAEMON, KEY, LIBC, LIMIT_S, echo, equal, gateways, holds, in_netns, main, stream,
                   tries, wait_for, wire)

BYTES = 8 << 20
NEAR, FAR = "198.51.100.1", "203.0.113.1"
ENDS, ENDS6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")
RAW = "[io]\nnative = raw\n"
IPT_SO_GET_INFO = 64
PACKET = "[io]\nnative = packet\n"


def settle(*nets):
    """Until their devices have the addresses that come by themselves: all is looked up again then,
    and raw sockets send meanwhile."""
    def have_come():
        return not any(net.run("ip", "-6", "addr", "show", "tentative").stdout for net in nets)
    wait_for(have_come)
    time.sleep(0.1)


def tunnel(netns, config=""):
    near, far = wire(netns)
    settle(near, far)
    for net in near, far:
        net.start_with(config)
    gateways(near, far, (NEAR, FAR))
    return near, far


def sent(net):
    """Packets by packet sockets, and by raw ones."""
    io = net.ask("stats")["io"]
    return io["packet_tx"], io["raw_tx"]


def native(net):
    return net.ask("status")["native"]


def ping(net, count=1, interval=0.05, wait=1):
    """How many came back, where not all need do so."""
    return echo(net, FAR, count, interval, wait)


def all_come_back(net, count=3, interval=0.05):
    equal(echo(net, FAR, count, interval), count)


def says(net, name, word):
    """Until the status says so: the daemon knows."""
    def has_word():
        return native(net)[name] == word
    wait_for(has_word)


def by_packet(net):
    """Until packets leave by packet sockets: the first ones never do."""
    def leaves():
        before = sent(net)[0]
        ping(net, 3)
        return sent(net)[0] >= before + 2
    wait_for(leaves)


def not_by_packet(net):
    def does_not():
        before = sent(net)[0]
        ping(net, 3)
        return sent(net)[0] == before
    wait_for(does_not)


def a_stream_leaves_by_packet_sockets(netns):
    near, far = tunnel(netns)
    by_packet(near)
    stream(near, far, (NEAR, FAR), BYTES)
    for net in near, far:
        packet, raw = sent(net)
        # A few at the beginning, and one a second.
        equal((packet > 50, raw < packet // 2), (True, True))
        stats = net.ask("stats")
        equal({k: v for k, v in stats["xfrm_stat"].items() if v}, {})
        equal(stats["engine"]["lin_copies"], 0)
    status = native(near)
    has_tcx = status["why_not_ring"] != "this kernel has no tcx"
    equal(status, {"mode": "auto", "destinations": 1, "by_packet_socket": 1, "why_raw": "",
                   "from_ring": int(has_tcx), "why_not_ring": status["why_not_ring"]})
    for net in near, far:
        io = net.ask("stats")["io"]
        equal((io["ring_rx"] > io["raw_rx"], io["ring_full"]), (has_tcx, 0))
    holds(near.ctl("status").stdout, "native    auto, sent to 1 destinations by packet sockets")


# --- The same frames ---

def inner(index, df):
    """An IPv4 packet, byte by byte ours."""
    size = 20 + 8 + 37 * index
    header = bytearray(bytes([0x45, 4 * index]) + size.to_bytes(2, "big") + b"\x12\x34" +
                       (b"\x40\x00" if df else b"\x00\x00") + bytes([60 + index, 17, 0, 0]) +
                       socket.inet_aton(NEAR) + socket.inet_aton(FAR))
    total = sum(int.from_bytes(header[i:i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xffff) + (total >> 16)
    header[10:12] = (0xffff - (total & 0xffff) - (total >> 16)).to_bytes(2, "big")
    udp = b"\x00\x09\x00\x09" + (size - 20).to_bytes(2, "big") + b"\x00\x00"
    return bytes(header) + udp + bytes(37 * index)


def frames_of(near, far, mode, ends):
    """What 16 packets look like on the wire, sent in this mode by an SA that draws nothing."""
    near.start_with(f"[io]\nnative = {mode}\n")
    try:
        near.xfrm("state", "add", "src", ends[0], "dst", ends[1], "proto", "esp", "spi", "0x1000",
                  "reqid", "1", "mode", "tunnel", "flag", "af-unspec", "enc", "ecb(cipher_null)",
                  "", "auth-trunc", "hmac(sha256)", "0x" + "07" * 32, "128", check=True)
        near.xfrm("policy", "add", "src", NEAR, "dst", FAR, "dir", "out", "tmpl", "src", ends[0],
                  "dst", ends[1], "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)
        sender = in_netns(near, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        sniffer = in_netns(far, socket.AF_PACKET, socket.SOCK_RAW)
        sniffer.bind(("eth0", 3))
        sniffer.settimeout(LIMIT_S)
        found = {}
        # The first packets meet the neighbour and take the raw socket in any mode.
        for number in range(3):
            sender.sendto(inner(1, True), (FAR, 0))
            wait_for(lambda: sum(sent(near)) > number)
            if number == 0:
                wait_for(lambda: "lladdr" in near.run("ip", "neigh", "show", ends[1]).stdout)
        if mode == "packet":
            wait_for(lambda: native(near)["by_packet_socket"] == 1)
        started = time.monotonic()
        before = sent(near)
        for index in range(16):
            sender.sendto(inner(index, index % 4 != 3), (FAR, 0))
        while len(found) < 16:
            frame = sniffer.recv(65535)
            if (esp := esp_of(frame)) is not None and esp[4:8] > b"\0\0\0\3":
                found[esp[4:8]] = frame
        after = sent(near)
    finally:
        near.xfrm("policy", "deleteall")
        near.stop()
    sender.close()
    sniffer.close()
    # One a second is due for the raw socket.
    due = 1 + int(time.monotonic() - started)
    return found, after[0] - before[0], due


def esp_of(frame):
    if frame[12:14] == b"\x08\x00" and frame[23] == 50:
        return frame[34:]
    if frame[12:14] == b"\x86\xdd" and frame[20] == 50:
        return frame[54:]
    return None


def without_id(frame):
    """An IPv4 header's id is drawn by SA where packets may be cut; its checksum covers it."""
    if frame[12] == 8 and frame[20] & 0x40 == 0:
        return frame[:18] + frame[20:24] + frame[26:]
    return frame


def same_frames(netns, ends):
    near, far = wire(netns)
    for net, addr in (near, ENDS6[0]), (far, ENDS6[1]):
        net.run("ip", "addr", "add", f"{addr}/64", "dev", "eth0", "nodad", check=True)
    near.run("ip", "addr", "add", f"{NEAR}/32", "dev", "lo", check=True)
    near.run("ip", "route", "add", FAR, "via", "192.0.2.2", "src", NEAR, check=True)
    settle(near, far)
    raw, by_packet_raw, _ = frames_of(near, far, "raw", ends)
    equal(by_packet_raw, 0)
    equal(len(raw), 16)

    def packet_sockets_send_the_same():
        """The same at any rate, and by packet sockets unless what is known of the way just changes.
        """
        packet, by_packet_packet, due = frames_of(near, far, "packet", ends)
        equal({k: without_id(v) for k, v in packet.items()},
              {k: without_id(v) for k, v in raw.items()})
        return by_packet_packet >= max(1, 16 - due)

    tries(packet_sockets_send_the_same, 5)


def the_frames_are_those_of_raw_sockets(netns):
    same_frames(netns, ENDS)


def and_over_ipv6(netns):
    same_frames(netns, ENDS6)


# --- Neighbours ---

def set_mac(net, mac):
    net.run("ip", "link", "set", "eth0", "address", mac, check=True)


def mac_of(net, to):
    return net.run("ip", "neigh", "show", to).stdout


def back_after(near):
    """How many pings are lost before one comes back: a machine that stands still loses none."""
    for lost in range(1000):
        if ping(near, interval=0, wait=0.1):
            return lost
    raise AssertionError("no ping came back")


def a_neighbour_that_says_so(near, far):
    """A gratuitous ARP: at once."""
    far.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=1", check=True)
    near.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_accept=1", check=True)
    set_mac(far, "02:00:00:00:00:77")
    return back_after(near)


def a_silent_neighbour(near, far):
    """Nobody says anything: the kernel has to find out, by probes that only use brings about."""
    near.run("sysctl", "-qw", "net.ipv4.neigh.eth0.base_reachable_time_ms=1000",
             "net.ipv4.neigh.eth0.delay_first_probe_time=1",
             "net.ipv4.neigh.eth0.retrans_time_ms=200", check=True)
    far.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=0", check=True)
    set_mac(far, "02:00:00:00:00:78")
    return back_after(near)


def a_neighbour_with_another_address(netns):
    lost = {}
    for mode in "raw", "packet":
        near, far = tunnel(netns, f"[io]\nnative = {mode}\n")
        # Addresses that come by themselves would have everything looked up again.
        near.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1", check=True)
        ping(near, 5)
        lost[mode] = a_neighbour_that_says_so(near, far), a_silent_neighbour(near, far)
        holds(mac_of(near, ENDS[1]), "02:00:00:00:00:78")
    by_packet(near)
    print("# pings lost until traffic is back, told and not told:", lost, flush=True)
    for packet, raw in zip(lost["packet"], lost["raw"]):
        equal(packet < raw + 30, True)


def until_due(near):
    """Until a packet has just taken the raw socket: none will for a second."""
    before = sent(near)[1]
    while sent(near)[1] == before:
        ping(near)


def what_changes_is_followed_at_once(netns):
    """Not only when the next packet is due for the raw socket, a second later."""
    near, far = tunnel(netns)
    by_packet(near)
    near.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_accept=1", check=True)
    far.run("sysctl", "-qw", "net.ipv4.conf.eth0.arp_notify=1", check=True)
    macs = iter(range(0x79, 0xff))

    def none_is_lost():
        """And none took the raw socket, which would have told."""
        until_due(near)
        raw = sent(near)[1]
        set_mac(far, f"02:00:00:00:00:{next(macs):02x}")
        time.sleep(0.1)
        return ping(near, 10, 0.02) == 10 and sent(near)[1] == raw

    tries(none_is_lost, 20)
    near.run("ip", "route", "add", "blackhole", f"{ENDS[1]}/32", check=True)
    says(near, "why_raw", "there is no route")
    before = sent(near)[0]
    ping(near, 5, 0.02, 0.1)
    equal(sent(near)[0], before)
    near.run("ip", "route", "del", "blackhole", f"{ENDS[1]}/32", check=True)
    by_packet(near)


# --- Firewalls ---

def an_output_rule_is_obeyed(netns):
    near, _ = tunnel(netns)
    by_packet(near)
    near.run("nft", "add table ip fw; add chain ip fw out { type filter hook output priority 0; }",
             check=True)
    by_packet(near)  # a chain without rules changes nothing
    near.run("nft", "add rule ip fw out meta l4proto 50 counter drop", check=True)
    says(near, "why_raw", 'nftables chain "fw out" sees what is sent')
    before = sent(near)[0]
    equal(ping(near, 5), 0)
    equal(sent(near)[0], before)
    holds(near.run("nft", "list", "table", "ip", "fw").stdout, "packets 5 ")
    equal(native(near)["by_packet_socket"], 0)
    near.run("nft", "delete", "table", "ip", "fw", check=True)
    by_packet(near)


def a_rule_appears_under_load(netns):
    """From one moment to the next: what the kernel counts as sent past the rule is a few ms."""
    near, _ = tunnel(netns)
    by_packet(near)
    flood = subprocess.Popen(near.argv("ping", "-n", "-q", "-f", "-w", "4", FAR),
                             stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    near.run("nft", "add table inet fw; add chain inet fw post { type filter hook postrouting "
             "priority 0; policy drop; }", check=True)
    says(near, "why_raw", 'nftables chain "fw post" sees what is sent')
    before = sent(near)[0]
    flood.wait()
    equal(sent(near)[0], before)


def make_iptables_filter(net):
    """As iptables does first: ask for the table, which makes it. False: this kernel has none."""
    asking = in_netns(net, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    info = ctypes.create_string_buffer(b"filter", 84)
    size = ctypes.c_uint32(len(info))
    with asking:
        return LIBC.getsockopt(asking.fileno(), socket.IPPROTO_IP, IPT_SO_GET_INFO, info,
                               ctypes.byref(size)) == 0


def iptables_is_seen_within_seconds(netns):
    """Nothing tells of it: it is looked for while there is traffic."""
    near, _ = tunnel(netns)
    by_packet(near)
    if not make_iptables_filter(near):
        print("# not tested: this kernel has no iptables", flush=True)
        return
    not_by_packet(near)
    equal(native(near)["why_raw"], "iptables has tables")


def packet_goes_past_rules(netns):
    """Forced: the administrator says that the rules do not matter."""
    near, _ = tunnel(netns, PACKET)
    near.run("nft", "add table ip fw; add chain ip fw out { type filter hook output priority 0; }; "
             "add rule ip fw out meta l4proto 50 counter drop", check=True)

    def learns():
        # The rule drops what the raw socket sends, so nothing but this makes the neighbour known.
        near.run("ping", "-n", "-q", "-c", "1", "-W", "1", ENDS[1])
        return ping(near, 2) > 0
    wait_for(learns)


def a_rule_of_the_device_is_obeyed(netns):
    """What is behind packet sockets: they send through the device's hook, as through tc."""
    near, _ = tunnel(netns)
    by_packet(near)
    near.run("nft", "add table netdev fw; add chain netdev fw out { type filter hook egress device "
             "eth0 priority 0; }; add rule netdev fw out ip protocol 50 counter drop", check=True)
    equal(ping(near, 5), 0)
    holds(near.run("nft", "list", "table", "netdev", "fw").stdout, "packets 5 ")
    equal((native(near)["by_packet_socket"], native(near)["why_raw"]), (1, ""))


def the_queue_of_the_device_is_obeyed(netns):
    near, _ = tunnel(netns)
    by_packet(near)
    near.run("tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo", "limit", "0", check=True)
    equal(ping(near, 5), 0)
    near.run("tc", "qdisc", "del", "dev", "eth0", "root", check=True)
    all_come_back(near, 5)


def marks_are_the_packets(netns):
    """An SA's output mark is on what tc sees, as with raw sockets."""
    near, _ = wire(netns)
    near.start_with("")
    near.run("ip", "addr", "add", f"{NEAR}/32", "dev", "lo", check=True)
    near.run("ip", "route", "add", FAR, "via", ENDS[1], "src", NEAR, check=True)
    near.xfrm("state", "add", "src", ENDS[0], "dst", ENDS[1], "proto", "esp", "spi", "0x1000",
              "reqid", "1", "mode", "tunnel", "output-mark", "0x77", "aead", "rfc4106(gcm(aes))",
              KEY, "128", check=True)
    near.xfrm("policy", "add", "src", NEAR, "dst", FAR, "dir", "out", "tmpl", "src", ENDS[0],
              "dst", ENDS[1], "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)
    by_packet(near)
    near.run("nft", "add table netdev m; add chain netdev m e { type filter hook egress device "
             "eth0 priority 0; }; add rule netdev m e ip protocol 50 meta mark != 0x20000077 "
             "counter", check=True)
    by_packet(near)
    holds(near.run("nft", "list", "table", "netdev", "m").stdout, "packets 0 ")


# --- Received ahead of IP input ---

def received(net):
    """From the ring, and from raw sockets."""
    io = net.ask("stats")["io"]
    return io["ring_rx"], io["raw_rx"]


def by_ring(near, far):
    """Until @far receives ahead of IP input. False: this kernel cannot."""
    def comes():
        before = received(far)[0]
        return ping(near, 3) == 3 and received(far)[0] == before + 3
    if native(far)["why_not_ring"] == "this kernel has no tcx":
        print("# not tested: this kernel has no tcx", flush=True)
        return False
    wait_for(comes)
    return True


def an_input_rule_is_obeyed(netns):
    near, far = tunnel(netns)
    by_packet(near)
    if not by_ring(near, far):
        return
    far.run("nft", "add table ip fw; add chain ip fw in { type filter hook input priority 0; }",
            check=True)
    by_ring(near, far)
    far.run("nft", "add rule ip fw in meta l4proto 50 counter drop", check=True)
    says(far, "why_not_ring", 'nftables chain "fw in" sees what is received')
    before = received(far)
    equal(ping(near, 5), 0)
    equal(received(far), before)
    holds(far.run("nft", "list", "table", "ip", "fw").stdout, "packets 5 ")
    # What is sent is another matter.
    equal(native(far)["by_packet_socket"], 1)
    far.run("nft", "delete", "table", "ip", "fw", check=True)
    by_ring(near, far)


def strangers_and_options_take_the_raw_socket(netns):
    near, far = tunnel(netns)
    by_packet(near)
    if not by_ring(near, far):
        return
    sender = in_netns(near, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(source, options=b"", frag=0x4000):
        size = 20 + len(options) + 64
        header = bytes([0x45 + len(options) // 4, 0]) + size.to_bytes(2, "big") + b"\x00\x07" + \
            frag.to_bytes(2, "big") + bytes([64, 50, 0, 0]) + socket.inet_aton(source) + \
            socket.inet_aton(ENDS[1]) + options
        sender.sendto(header + (0x1000).to_bytes(4, "big") + bytes(60), (ENDS[1], 0))

    def come(how, *more):
        """What is sent comes by the ring and by the raw socket so often."""
        before = received(far)
        for packet in more:
            send(**packet)
        wait_for(lambda: sum(received(far)) >= sum(before) + sum(how))
        equal(tuple(now - then for now, then in zip(received(far), before)), how)

    come((1, 0), {"source": ENDS[0]})
    come((0, 1), {"source": "192.0.2.77"})
    come((0, 1), {"source": ENDS[0], "options": b"\x01\x01\x01\x00"})
    # Fragments come by the ring as well, put together: the first of two waits for the other.
    come((1, 0), {"source": ENDS[0], "frag": 0x2000}, {"source": ENDS[0], "frag": 64 // 8})
    sender.close()


def somebody_elses_filter_goes_first(netns):
    near, far = tunnel(netns)
    by_packet(near)
    if not by_ring(near, far):
        return
    far.run("tc", "qdisc", "add", "dev", "eth0", "clsact", check=True)
    far.run("tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "ip", "prio", "9", "u32",
            "match", "ip", "protocol", "50", "0xff", "classid", "1:1", check=True)
    wait_for(lambda: ping(near) and native(far)["from_ring"] == 0)
    equal(native(far)["why_not_ring"], "there are filters at tc ingress of the device")
    before = received(far)[0]
    all_come_back(near)
    equal(received(far)[0], before)


def a_killed_daemon_leaves_nothing_at_ingress(netns):
    near, far = tunnel(netns)
    by_packet(near)
    if not by_ring(near, far):
        return
    far.stop(signal.SIGKILL)
    sniffer = in_netns(far, socket.AF_INET, socket.SOCK_RAW, 50)
    sniffer.settimeout(LIMIT_S)
    ping(near, 1, wait=0.1)
    equal(sniffer.recv(65535)[9], 50)
    sniffer.close()


# --- Devices ---

def a_device_goes_down_and_comes_back(netns):
    near, _ = tunnel(netns)
    by_packet(near)
    near.run("ip", "link", "set", "eth0", "down", check=True)
    equal(ping(near, 3), 0)
    near.run("ip", "link", "set", "eth0", "up", check=True)
    near.run("ip", "route", "replace", FAR, "via", ENDS[1], "src", NEAR, "mtu", "1400", check=True)
    by_packet(near)
    all_come_back(near, 5)


def a_device_gets_a_smaller_mtu(netns):
    near, far = tunnel(netns)
    by_packet(near)
    for net in near, far:
        net.run("ip", "link", "set", "eth0", "mtu", "1280", check=True)
    stream(near, far, (NEAR, FAR), 1 << 20)
    by_packet(near)
    # What does not fit is told to its sender, not sent.
    done = near.run("ping", "-n", "-c", "2", "-W", "1", "-M", "do", "-s", "1350", FAR)
    holds(done.stdout + done.stderr, "0 received")


def other_devices_are_left_to_raw_sockets(netns):
    near = netns()
    near.start_with("")
    near.run("ip", "tuntap", "add", "dev", "tun9", "mode", "tun", check=True)
    near.run("ip", "addr", "add", "192.0.2.1/24", "dev", "tun9", check=True)
    near.run("ip", "link", "set", "tun9", "up", check=True)
    near.run("ip", "addr", "add", f"{NEAR}/32", "dev", "lo", check=True)
    near.run("ip", "route", "add", FAR, "via", ENDS[1], "src", NEAR, check=True)
    near.xfrm("state", "add", "src", ENDS[0], "dst", ENDS[1], "proto", "esp", "spi", "0x1000",
              "reqid", "1", "mode", "tunnel", "aead", "rfc4106(gcm(aes))", KEY, "128", check=True)
    near.xfrm("policy", "add", "src", NEAR, "dst", FAR, "dir", "out", "tmpl", "src", ENDS[0],
              "dst", ENDS[1], "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)
    ping(near, 3, wait=0.1)
    wait_for(lambda: sum(sent(near)) == 3)
    equal(sent(near), (0, 3))
    equal(native(near)["why_raw"], "its device does not resolve Ethernet addresses")


# --- Configuration ---

def raw_is_raw(netns):
    near, far = tunnel(netns, RAW)
    stream(near, far, (NEAR, FAR), 1 << 20)
    equal(sent(near)[0], 0)
    equal(native(near), {"mode": "raw", "destinations": 0, "by_packet_socket": 0, "why_raw": "",
                         "from_ring": 0, "why_not_ring": ""})
    equal(near.ask("stats")["io"]["ring_rx"], 0)


def a_bad_word_is_told(netns):
    net = netns()
    path = f"/tmp/{net.name}.conf"
    with open(path, "w", encoding="ascii") as file:
        file.write("[io]\nnative = fast\n")
    done = net.run(DAEMON, "--check", "--config", path)
    os.unlink(path)
    equal(done.returncode, 2)
    holds(done.stderr, 'native must be one of auto, packet, raw, not "fast"')


main([a_stream_leaves_by_packet_sockets, the_frames_are_those_of_raw_sockets, and_over_ipv6,
      a_neighbour_with_another_address, what_changes_is_followed_at_once,
      an_output_rule_is_obeyed, a_rule_appears_under_load, iptables_is_seen_within_seconds,
      packet_goes_past_rules, a_rule_of_the_device_is_obeyed,
      the_queue_of_the_device_is_obeyed, marks_are_the_packets,
      an_input_rule_is_obeyed, strangers_and_options_take_the_raw_socket,
      somebody_elses_filter_goes_first, a_killed_daemon_leaves_nothing_at_ingress,
      a_device_goes_down_and_comes_back, a_device_gets_a_smaller_mtu,
      other_devices_are_left_to_raw_sockets, raw_is_raw, a_bad_word_is_told])
