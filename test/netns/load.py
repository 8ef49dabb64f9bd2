#!/usr/bin/env python3
"""Many policies and SAs at once: they come, are dumped and go in any order, and so does memory."""
import json
import os
import re
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import xfrmd
from xfrmd import BUILD, EXEC, LIBC, LIMIT_S, SHARED, equal, holds, wait_for

MANY = 20000
# What stays of 20,000 policies and SAs, but for locked memory: nothing near their 35 MB.
LEFT_BYTES = 6 << 20
PEER = "192.0.2.2"
UDP = "proto", "udp"
IPV6_FREEBIND = 78
PR_SET_THP_DISABLE = 41


def start_with_small_pages(net):
    """So that what is resident is what the daemon has touched, whatever the machine's settings."""
    equal(LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0)
    net.start()
    equal(LIBC.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0)


def memory(net):
    """Resident bytes that are not locked: those are the keys' own business."""
    with open(f"/proc/{net.daemon.pid}/smaps_rollup") as f:
        kb = int(re.search(r"^Rss: +(\d+) kB", f.read(), re.M)[1])
    return kb * 1024 - net.ask("status")["locked_bytes"]


def is_sanitized(net):
    """Address sanitizer keeps what is freed for a while."""
    with open(f"/proc/{net.daemon.pid}/maps") as f:
        return "libasan" in f.read()


def loads_and_forgets(netns):
    for name in "host-pairs", "subnets":
        net = netns()
        start_with_small_pages(net)
        before = memory(net)
        done = net.run(f"{BUILD}/bench/bench_load", "--sas", str(MANY), "--policies", str(MANY),
                       "--set", name, "--pid", str(net.daemon.pid), timeout=240)
        equal(done.stderr, "")
        equal(done.returncode, 0)
        took = {row["temp"]: row["value"] for row in map(json.loads, done.stdout.splitlines())
                if row["metric"] == "seconds"}
        equal(sorted(took), ["add SAs", "add policies", "delete SAs", "delete policies",
                             "dump SAs", "dump policies"])
        left = memory(net) - before
        if left > LEFT_BYTES and not is_sanitized(net):
            raise AssertionError(f"{left} bytes stay")


def rules(net, what="outbound"):
    done = net.run("nft", "list", "chain", "inet", "xfrmd", what, check=True)
    return [line.strip() for line in done.stdout.splitlines() if "counter" in line]


def elements(net, start):
    """How many have the sets whose names begin so?"""
    done = net.run("nft", "-j", "list", "table", "inet", "xfrmd", check=True)
    sets = [item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item]
    return sum(len(one.get("elem", ())) for one in sets if one["name"].startswith(start))


def captured(net):
    done = net.run("nft", "-j", "list", "counter", "inet", "xfrmd", "captured", check=True)
    return [item["counter"]["packets"] for item in json.loads(done.stdout)["nftables"]
            if "counter" in item][0]


def destination(index):
    return f"198.51.{100 + index // 256}.{index % 256}"


def batch(net, verb, numbers, tail=""):
    text = "".join(f"xfrm policy {verb} src 192.0.2.1 dst {destination(i)}/32 dir out{tail}\n"
                   for i in numbers)
    done = net.run(EXEC, "ip", "-batch", "-", input=text)
    equal(done.stderr, "")


TMPL = f" tmpl src 192.0.2.1 dst {PEER} proto esp mode tunnel"


def add(net, numbers):
    batch(net, "add", numbers, TMPL)


def is_caught(net, there, addr):
    """Nothing is sent in clear to @addr, not even now; @there would see it."""
    before = captured(net)
    sock = xfrmd.in_netns(net, socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(b"secret", (addr, 4000))
    equal(captured(net), before + 1)
    there.settimeout(0.1)
    try:
        there.recv(64)
    except TimeoutError:
        return
    raise AssertionError(f"{addr} was sent to in clear")


def passes(net, there, addr):
    sock = xfrmd.in_netns(net, socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(b"public", (addr, 4000))
    there.settimeout(LIMIT_S)
    equal(there.recv(64), b"public")


def receiver(net):
    net.run("ip", "route", "add", "local", "198.51.0.0/16", "dev", "lo", check=True)
    sock = xfrmd.in_netns(net, socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 4000))
    return sock


def rules_follow_while_policies_come(netns):
    near, far = xfrmd.wire(netns)
    near.run("ip", "route", "add", "198.51.0.0/16", "via", PEER, check=True)
    near.start()
    there = receiver(far)
    # A few have a rule each, at once; more are in a set of destinations, while they come ...
    add(near, range(40))
    equal((len(rules(near)), elements(near, "dst4_32_")), (40, 0))
    add(near, range(40, 900))
    equal(elements(near, "dst4_32_"), 900)
    is_caught(near, there, destination(899))
    is_caught(near, there, destination(0))

    def exact():
        return len(rules(near, "selected")) > 0

    # ... and in one of whole selectors when they are there.
    wait_for(exact)
    equal((len(rules(near)), len(rules(near, "selected")), elements(near, "out4_32_32_")),
          (0, 1, 900))
    is_caught(near, there, destination(899))
    passes(near, there, destination(900))
    # What is like the others is exact at once.
    add(near, [900])
    equal((elements(near, "dst4_32_"), elements(near, "out4_32_32_")), (901, 901))
    is_caught(near, there, destination(900))
    passes(near, there, destination(901))
    batch(near, "delete", [i for i in range(901) if i % 3])
    equal((elements(near, "dst4_32_"), elements(near, "out4_32_32_")), (301, 301))
    passes(near, there, destination(898))
    is_caught(near, there, destination(897))
    batch(near, "delete", range(0, 900, 3))
    equal((len(rules(near)), elements(near, "dst4"), elements(near, "out4")), (1, 0, 0))
    is_caught(near, there, destination(900))
    passes(near, there, destination(897))


def ports_out(net, verb, ports, priority, more=""):
    done = net.run(EXEC, "ip", "-batch", "-", input="".join(
        f"xfrm policy {verb} src 192.0.2.1 dst 198.51.100.0/24 proto udp dport {port} {more} "
        f"dir out priority {priority}{TMPL}\n" for port in ports))
    equal(done.stderr, "")


def caught_ports(net, ports):
    """Which of @ports of a destination that has policies are captured?"""
    caught = []
    with xfrmd.in_netns(net, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for port in ports:
            before = captured(net)
            sock.sendto(b"a word", (destination(7), port))
            caught += [port] * (captured(net) - before)
    return caught


def what_no_policy_selects_is_not_captured(netns):
    near, _ = xfrmd.wire(netns)
    near.run("ip", "route", "add", "198.51.0.0/16", "via", PEER, check=True)
    near.run("nft", "-f", "-", check=True, input="table ip marks {\nchain out {\ntype route hook "
             "output priority 0;\nudp dport 6001 meta mark set 0x57\n}\n}\n")
    near.start()
    ports_out(near, "add", range(4001, 4701), 10)

    def are_exact(rules_wanted):
        wait_for(lambda: len(rules(near, "selected")) == rules_wanted)

    are_exact(2)
    equal(caught_ports(near, (4000, 4001, 4700, 4701)), [4001, 4700])
    # Ahead of one that lets pass; with a mark; behind it.
    to_one = "src", "192.0.2.1", "dst", destination(7), "dir", "out"
    near.xfrm("policy", "add", *to_one, "priority", "7", check=True)
    ports_out(near, "update", [4002], 1)
    ports_out(near, "add", range(5000, 5100), 3)
    for mark in range(0x50, 0x60):
        ports_out(near, "add", [6000, 6001], 2, f"mark {mark} mask 0xff")
    are_exact(6)
    ports = 4001, 4002, 4003, 5000, 5099, 5100, 6000, 6001
    equal(caught_ports(near, ports), [4002, 5000, 5099, 6001])
    near.xfrm("policy", "delete", *to_one, check=True)
    equal(set(caught_ports(near, ports)) >= {4001, 4002, 4003, 5000, 5099, 6001}, True)
    are_exact(4)
    equal(caught_ports(near, ports), [4001, 4002, 4003, 5000, 5099, 6001])


def sieve_policy(net, verb, index, *more, proto=()):
    done = net.xfrm("policy", verb, "src", f"{destination(index)}/32", "dst", "192.0.2.1/32",
                    *proto, "dir", "in", *more)
    equal(done.stderr, "")


def patience(wanted):
    """How long for what should come, and for what should not: that is not seen any sooner."""
    return LIMIT_S if wanted else 0.1


def arrives(listener, sender, to, wanted, size=8):
    """Does a datagram from there get to @listener? Earlier ones may still come."""
    data = os.urandom(8) + bytes(size - 8)
    sender.sendto(data, to)
    listener.settimeout(patience(wanted))
    try:
        while listener.recv(9000) != data:
            pass
        return True
    except TimeoutError:
        return False


def gets_in(here, far, want):
    """Does plaintext from there reach @here? @want says of which sources it should."""
    got = {}
    for index, wanted in want.items():
        with xfrmd.in_netns(far, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((destination(index), 0))
            got[index] = arrives(here, sock, ("192.0.2.1", 4001), wanted)
    equal(got, want)


def plaintext_is_kept_out_by_sets(netns):
    near, far = xfrmd.wire(netns)
    near.run("ip", "route", "add", "198.51.0.0/16", "via", PEER, check=True)
    near.start()
    far.run("ip", "route", "add", "local", "198.51.0.0/16", "dev", "lo", check=True)
    here = xfrmd.in_netns(near, socket.AF_INET, socket.SOCK_DGRAM)
    here.bind(("0.0.0.0", 4001))
    tmpl = " priority 10 tmpl src 192.0.2.2 dst 192.0.2.1 proto esp mode tunnel"
    lines = [f"src {destination(i)}/32 dst 192.0.2.1/32 dir {direction}"
             for direction in ("in", "fwd") for i in range(1000)]
    done = near.run(EXEC, "ip", "-batch", "-",
                    input="".join(f"xfrm policy add {line}{tmpl}\n" for line in lines))
    equal(done.stderr, "")
    # However many they are, a rule looks into a set of them.
    equal(len(rules(near, "inbound")), 1)
    equal(len(rules(near, "forwarded")), 1)
    gets_in(here, far, {0: False, 999: False, 1000: True})
    # One that allows counts by its rank: before the others, behind them, of the same one.
    sieve_policy(near, "add", 0, "action", "block", "priority", "20", proto=UDP)
    sieve_policy(near, "update", 999, "priority", "5")
    sieve_policy(near, "update", 998, "priority", "15")
    sieve_policy(near, "add", 1000, "priority", "10")
    sieve_policy(near, "add", 997, "priority", "10", proto=UDP)
    gets_in(here, far, {0: False, 996: False, 997: False, 998: True, 999: True, 1000: True})
    sieve_policy(near, "add", 998, "action", "block", "priority", "12", proto=UDP)
    gets_in(here, far, {998: False})
    sieve_policy(near, "delete", 998, proto=UDP)
    sieve_policy(near, "delete", 0)
    gets_in(here, far, {0: False, 1: False, 998: True})
    sieve_policy(near, "delete", 0, proto=UDP)
    gets_in(here, far, {0: True, 1: False})
    sieve_policy(near, "add", 1001, "action", "block", "priority", "30")
    near.stop(9)
    near.start()
    gets_in(here, far, {0: True, 1: False, 996: False, 998: True, 999: True, 1000: True,
                        1001: False, 1002: True})
    sets = near.run("nft", "-t", "list", "sets", check=True).stdout
    # Before and behind those that allow.
    equal(len(re.findall(r"set in4_32_32_(?:b_)?\d", sets)), 2)
    done = near.run(EXEC, "ip", "-batch", "-",
                    input="".join(f"xfrm policy delete {line}\n" for line in lines
                                  if f"src {destination(0)}/32" not in line or "fwd" in line))
    equal(done.stderr, "")
    gets_in(here, far, {0: True, 1: True, 996: True, 998: True, 999: True, 1000: True})
    gets_in(here, far, {1001: False})
    equal(near.run("nft", "-t", "list", "sets", check=True).stdout.count("set in4"), 0)


def listen(net, family, port):
    sock = xfrmd.in_netns(net, family, socket.SOCK_DGRAM)
    sock.bind(("" if family == socket.AF_INET else "::", port))
    return sock


def ports_are_kept_out_by_sets(netns):
    near, far = xfrmd.wire(netns)
    for net, addr in (near, "2001:db8::1"), (far, "2001:db8::2"):
        net.run("ip", "addr", "add", f"{addr}/64", "dev", "eth0", "nodad", check=True)
    near.start()
    ends = ((socket.AF_INET, "192.0.2.2", "192.0.2.1", 32),
            (socket.AF_INET6, "2001:db8::2", "2001:db8::1", 128))
    text = ""
    for _, src, dst, bits in ends:
        head = f"xfrm policy add src {src}/{bits} dst {dst}/{bits}"
        tail = f"dir in tmpl src {src} dst {dst} proto esp mode tunnel\n"
        text += "".join(f"{head} proto udp dport {port} {tail}" for port in range(5000, 5200))
        text += "".join(f"{head} proto udp sport {port} {tail}" for port in range(6000, 6100))
        text += "".join(f"{head} proto udp sport 7001 dport {port} {tail}"
                        for port in range(7000, 7100))
        text += f"xfrm policy add dst {dst}/{bits} proto 17 dport 8000 {tail}"
        text += f"xfrm policy add src ::/0 proto udp dport 8001 {tail}" if bits == 128 else \
            f"xfrm policy add src 0.0.0.0/0 proto udp dport 8001 {tail}"
    done = near.run(EXEC, "ip", "-batch", "-", input=text)
    equal(done.stderr, "")
    # For each family five sets of ports, and three of pieces: ends, destination, neither.
    equal(len(rules(near, "inbound")), 2 * (5 + 3))
    for family, _, dst, _ in ends:
        listeners = {port: listen(near, family, port)
                     for port in (5000, 5199, 5200, 7000, 7099, 8000, 8001, 8002)}
        senders = {port: listen(far, family, port) for port in (5999, 6000, 6099, 6100, 7001)}

        def comes_in(sport, dport, wanted, size=8):
            came = arrives(listeners[dport], senders[sport], (dst, dport), wanted, size)
            equal((sport, dport, came), (sport, dport, wanted))

        wait_for(lambda: arrives(listeners[8002], senders[5999], (dst, 8002), False))
        for port in listeners:
            comes_in(5999, port, port not in (5000, 5199, 8000, 8001))
        for port in senders:
            comes_in(port, 8002, port not in (6000, 6099))
        for port in 7000, 7099, 5200:
            comes_in(7001, port, port == 5200)
        # Of a datagram in pieces only the first one tells ports, so none comes in. IPv4 has put
        # them together by then.
        comes_in(5999, 8002, family == socket.AF_INET, 4000)
        comes_in(5999, 5000, False, 4000)
        for sock in *listeners.values(), *senders.values():
            sock.close()


def ipv6_is_no_different(netns):
    near, far = xfrmd.wire(netns)
    for net, addr in (near, "2001:db8::1"), (far, "2001:db8::2"):
        net.run("ip", "addr", "add", f"{addr}/64", "dev", "eth0", "nodad", check=True)
    near.run("ip", "-6", "route", "add", "fd00::/16", "via", "2001:db8::2", check=True)
    far.run("ip", "-6", "route", "add", "local", "fd00::/16", "dev", "lo", check=True)
    near.start()
    done = near.run(EXEC, "ip", "-batch", "-", input="".join(
        f"xfrm policy add src fd00:{i:x}::/32 dst 2001:db8::1/128 dir in tmpl src 2001:db8::2 "
        "dst 2001:db8::1 proto esp mode tunnel\n"
        f"xfrm policy add src 2001:db8::1/128 dst fd00:{i:x}::/32 dir out tmpl src 2001:db8::1 "
        "dst 2001:db8::2 proto esp mode tunnel\n"
        for i in range(600)))
    equal(done.stderr, "")
    equal(len(rules(near, "inbound")) + len(rules(near)), 2)

    def gets_there(source, target, to, addr, wanted):
        """Does what is sent from @addr at @source to @to get to @target?"""
        with xfrmd.in_netns(target, socket.AF_INET6, socket.SOCK_DGRAM) as listener, \
                xfrmd.in_netns(source, socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            listener.bind(("::", 4002))
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            sock.bind((addr, 0))
            return arrives(listener, sock, (to, 4002), wanted)

    def neighbours_are_known():
        return gets_there(near, far, "fd00:7fff::1", "2001:db8::1", False)

    wait_for(neighbours_are_known)
    for i, wanted in (0, False), (599, False), (600, True):
        equal(gets_there(far, near, "2001:db8::1", f"fd00:{i:x}::1", wanted), wanted)
        equal(gets_there(near, far, f"fd00:{i:x}::1", "2001:db8::1", wanted), wanted)


def a_table_that_was_taken_away_comes_back(netns):
    near, far = xfrmd.wire(netns)
    near.run("ip", "route", "add", "198.51.0.0/16", "via", PEER, check=True)
    near.start_with(SHARED)
    there = receiver(far)
    add(near, range(600))
    near.run("nft", "flush", "ruleset", check=True)
    add(near, [600])
    equal(elements(near, "dst4_32_"), 601)
    is_caught(near, there, destination(5))
    is_caught(near, there, destination(600))
    holds(near.run("nft", "list", "table", "inet", "xfrmd").stdout, "hook prerouting")


def many_survive_a_restart(netns):
    near, far = xfrmd.wire(netns)
    near.run("ip", "route", "add", "198.51.0.0/16", "via", PEER, check=True)
    near.start()
    there = receiver(far)
    add(near, range(700))
    near.stop(9)
    is_caught(near, there, destination(699))
    near.start()
    equal(near.ask("status")["policies"]["out"], 700)
    is_caught(near, there, destination(699))
    passes(near, there, destination(700))


if __name__ == "__main__":
    xfrmd.main([
        loads_and_forgets,
        rules_follow_while_policies_come,
        what_no_policy_selects_is_not_captured,
        plaintext_is_kept_out_by_sets,
        ports_are_kept_out_by_sets,
        ipv6_is_no_different,
        a_table_that_was_taken_away_comes_back,
        many_survive_a_restart,
    ])
