#!/usr/bin/env python3
"""Super-packets from end to end: what arrives is what was sent, and what crosses the wire is ESP
in UDP as the SA says, however few system calls brought it there.
"""
import os
import socket
import subprocess

from xfrmd import ESP_IN_UDP, equal, gateways, in_netns, main, stream, wire

BYTES = 24 << 20
TOS = 0x88
NEAR, FAR = "198.51.100.1", "203.0.113.1"
NEAR6, FAR6 = "2001:db8:1::1", "2001:db8:2::1"
UDP_SEGMENT, UDP_GRO = 103, 104


def tunnel(netns, whole=False, config=""):
    """Unless @whole each frame is by itself on the wire, as the capture should see it."""
    near, far = wire(netns)
    for net in near, far:
        if not whole:
            net.run("ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off",
                    "tx-udp-segmentation", "off", check=True)
        net.start_with(config)
    gateways(near, far, (NEAR, FAR), ESP_IN_UDP)
    return near, far


def transfer(near, far):
    """BYTES of noise from near to far, with a TOS of its own."""
    stream(near, far, (NEAR, FAR), BYTES, TOS)


def frames(path):
    with open(path, "rb") as f:
        data = f.read()
    at = 24
    while at + 16 <= len(data):
        length = int.from_bytes(data[at + 8:at + 12], "little")
        yield data[at + 16 + 14:at + 16 + length]
        at += 16 + length


def check_frame(ip):
    equal(ip[0], 0x45)
    equal(ip[1] & 0xfc, TOS & 0xfc)
    equal(ip[6:8], b"\x40\x00")
    equal((ip[8], ip[9]), (64, 17))
    equal(ip[20:24], (4500).to_bytes(2, "big") * 2)
    equal(int.from_bytes(ip[2:4], "big"), int.from_bytes(ip[24:26], "big") + 20)


def captured(far, work):
    path = f"/tmp/{far.name}.pcap"
    dump = subprocess.Popen(far.argv("tcpdump", "-n", "-U", "-B", "65536", "-s", "64", "-i", "eth0",
                                     "-w", path, "ip", "src", "192.0.2.1"),
                            stderr=subprocess.PIPE, text=True)
    while "listening on" not in dump.stderr.readline():
        pass
    work()
    dump.terminate()
    dump.wait(timeout=60)
    found = list(frames(path))
    os.unlink(path)
    return found


def a_stream_arrives_and_its_frames_are_the_sas(netns):
    near, far = tunnel(netns)
    found = captured(far, lambda: transfer(near, far))
    for ip in found:
        check_frame(ip)
    numbers = [int.from_bytes(ip[32:36], "big") for ip in found]
    # No frame overtakes another: peers' windows have 32 packets by default.
    equal(numbers, sorted(numbers))
    equal(len(set(numbers)), len(numbers))


def few_calls_carry_many_packets(netns):
    near, far = tunnel(netns, whole=True)
    transfer(near, far)
    out, back = near.ask("stats"), far.ask("stats")
    for stats in out, back:
        equal((stats["engine"]["lin_copies"], stats["engine"]["payload_bytes_copied"]), (0, 0))
        equal({k: v for k, v in stats["xfrm_stat"].items() if v}, {})
    packets = out["engine"]["out_packets"]
    equal(packets > BYTES // 1400, True)
    # Copied to their frames, and summed on the way.
    equal(out["engine"]["csum_copies"] > packets * 9 // 10, True)
    equal(out["io"]["tun_rx_supers"] > 0, True)
    equal(out["io"]["udp_tx_calls"] < packets // 4, True)
    equal(back["io"]["udp_rx"], packets)
    equal(back["io"]["udp_rx_calls"] < packets // 4, True)
    equal(back["engine"]["gro_joined"] > packets // 2, True)
    equal(back["io"]["tun_tx_supers"] > 0, True)


def inner_frames_without_offloads(netns):
    """A sender that segments for itself: nothing is a super-packet, all of it arrives."""
    near, far = tunnel(netns)
    for net in near, far:
        net.run("ethtool", "-K", "xfrmd0", "tso", "off", "gso", "off")
    transfer(near, far)


def protect6(net, here, there, ends):
    """IPv6 through the same SAs."""
    net.run("ip", "addr", "add", f"{here}/128", "dev", "lo", "nodad", check=True)
    net.run("ip", "route", "add", there, "dev", "eth0", "src", here, "mtu", "1400", check=True)
    for direction, src, dst, a, b in ("out", here, there, *ends), ("in", there, here, *ends[::-1]):
        net.xfrm("policy", "add", "src", src, "dst", dst, "dir", direction, "tmpl", "src", a, "dst",
                 b, "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)


def tunnel6(netns):
    near, far = tunnel(netns, whole=True)
    protect6(near, NEAR6, FAR6, ("192.0.2.1", "192.0.2.2"))
    protect6(far, FAR6, NEAR6, ("192.0.2.2", "192.0.2.1"))
    return near, far


def counters(near, far):
    """What the device took and gave whole; nothing was dropped on either side."""
    out, back = near.ask("stats"), far.ask("stats")
    for stats in out, back:
        equal({k: v for k, v in stats["xfrm_stat"].items() if v}, {})
    return out["io"]["tun_rx_supers"], back["io"]["tun_tx_supers"]


def ipv6_streams(netns):
    near, far = tunnel6(netns)
    stream(near, far, (NEAR6, FAR6), BYTES, TOS)
    taken, given = counters(near, far)
    equal((taken > BYTES >> 16, given > 0), (True, True))


def datagrams(near, far, family, addrs):
    """Ten datagrams at once, the last one short, as the receiver sees them: whole buffers."""
    sink = in_netns(far, family, socket.SOCK_DGRAM)
    sink.settimeout(60)
    sink.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sink.bind((addrs[1], 9))
    noise = os.urandom(9 * 1200 + 77)
    with in_netns(near, family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        sender.bind((addrs[0], 0))
        sender.sendto(noise, (addrs[1], 9))
    found = b""
    sizes = []
    while len(found) < len(noise):
        data, control, _, _ = sink.recvmsg(65535, 64)
        found += data
        sizes += [int.from_bytes(c[2][:2], "little") for c in control if c[1] == UDP_GRO]
    sink.close()
    equal(found, noise)
    return sizes


def joined(near, far, family, addrs):
    """Until the receiver finds a joined one: it may wake up between two of them. How often sent."""
    for times in range(1, 51):
        sizes = datagrams(near, far, family, addrs)
        if sizes:
            equal(set(sizes), {1200})
            return times
    raise AssertionError("no datagrams were joined")


def datagrams_that_are_sent_at_once(netns):
    near, far = tunnel6(netns)
    has_them = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 2)
    equal(near.ask("status")["capture"]["tun_uso"], has_them)
    if not has_them:
        return
    sent = joined(near, far, socket.AF_INET, (NEAR, FAR))
    sent += joined(near, far, socket.AF_INET6, (NEAR6, FAR6))
    taken, given = counters(near, far)
    equal((taken, given > 1), (sent, True))


def ciphers_on_threads_of_their_own(netns):
    """Answers come later, and nothing is dropped, doubled or overtaken for it."""
    near, far = tunnel(netns, config="[crypto]\nthreads = 2\nsuites = all\n")
    numbers = [int.from_bytes(ip[32:36], "big")
               for ip in captured(far, lambda: transfer(near, far))]
    equal(numbers, sorted(set(numbers)))
    for net in near, far:
        equal({k: v for k, v in net.ask("stats")["xfrm_stat"].items() if v}, {})


main([a_stream_arrives_and_its_frames_are_the_sas, few_calls_carry_many_packets,
      inner_frames_without_offloads, ipv6_streams, datagrams_that_are_sent_at_once,
      ciphers_on_threads_of_their_own])
