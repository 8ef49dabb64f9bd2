#!/usr/bin/env python3
"""The host's NAT within policies, beside packets of all sizes and connections that last.

XFRMD_NAT_BYTES: how much each long connection carries, 1000000000 for one.
"""
import hashlib
import os
import socket
import threading
import time

import tcx
import xfrmd
from nat_table import (FORMS, FOUR, INSIDE, OTHERS, SIX, World, ask_both, ask_tcp, ask_udp, crowd,
                       family_of, protected_source, udp_flow)
from xfrmd import SHARED, equal

# What firewalls have: a connection that conntrack does not see in full ends here.
WHOLE_CONNECTIONS = "add chain inet host forward { type filter hook forward priority 0; }\n" \
                    "add rule inet host forward ct state invalid drop\n"


def flows_within_a_policy(netns):
    """Source NAT within a policy: of the first packet, of the flow's others, and of the gateway."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with(SHARED)
    world.tunnel()
    world.nat(FORMS["snat -o wan inside the selector"])
    world.nft(world.g1, WHOLE_CONNECTIONS)
    for family in FOUR, SIX:
        with udp_flow(world.h1, family[3]) as s:
            equal(ask_udp(s, tries=(xfrmd.LIMIT_S,)), INSIDE[family])
            before = world.g1.ask("stats")["io"]["nat_tx"]
            for _ in range(20):
                equal(ask_udp(s, tries=(xfrmd.LIMIT_S,)), INSIDE[family])
            # It is known by then.
            equal(world.g1.ask("stats")["io"]["nat_tx"], before)
            # It is known no more: as after a while.
            forget(world)
            equal(ask_udp(s, tries=(xfrmd.LIMIT_S,)), INSIDE[family])
            equal(world.g1.ask("stats")["io"]["nat_tx"], before + 1)
        equal(ask_tcp(world.h1, family[3], 50), INSIDE[family])
        # The gateway's own, by one of its addresses that the policy selects.
        with udp_flow(world.g1, family[3], source=family[0].replace("2", "1")) as s:
            equal(ask_udp(s), INSIDE[family])
        equal(ask_tcp(world.g1, family[3], source=family[0].replace("2", "1")), INSIDE[family])
    equal((world.clear(), world.stat("nat_dropped")), (0, 0))


def forget(world):
    """Flows that are known to be within, as if they were idle for long."""
    for name in "nat_within4", "nat_within6":
        world.nft(world.g1, f"flush set inet xfrmd {name}")


def policies_for_any_source(netns):
    """What masquerade makes of a source is within the policy then: Linux applies it."""
    world = World(netns)
    world.sas()
    world.batch(world.g1, [line for here, net in (("0.0.0.0/0", FOUR[4]), ("::/0", SIX[4]))
                           for line in world.policies(True, here=here) if net in line])
    # Not all that it sends: neighbour discovery is to be in clear.
    world.batch(world.g2, world.policies(False) + world.policies(False, here="{2}"))
    for form, rules in FORMS.items():
        world.nat(rules)
        world.nft(world.g1, WHOLE_CONNECTIONS)
        for family in FOUR, SIX:
            want = INSIDE[family] if "inside" in form else family[2]
            with udp_flow(world.h1, family[3]) as s:
                for _ in range(3):
                    equal((form, ask_udp(s, tries=(xfrmd.LIMIT_S,))), (form, want))
            equal((form, ask_tcp(world.h1, family[3], 20)), (form, want))
    equal(world.clear(), 0)


def has_backstop(world):
    filters = world.g1.run("tc", "filter", "show", "dev", "wan", "egress").stdout
    return "xf_egress" in tcx.names(world.g1, "wan") or "xf_egress" in filters


def take_backstop(world):
    """A link by force: it is looked for now and then. A filter more often than it is put back at
    once."""
    def stays_away():
        for _, link in tcx.programs(world.g1, "wan"):
            tcx.detach(link)
        world.g1.run("tc", "qdisc", "del", "dev", "wan", "clsact")
        time.sleep(0.3)
        return not has_backstop(world)
    xfrmd.wait_for(stays_away, xfrmd.LIMIT_S)


def without_the_filter(netns):
    without_the_backstop(netns, xfrmd.FILTERS)


def without_the_backstop(netns, config=""):
    """NAT within a policy counts on it to send packets into the TUN: else they do not leave."""
    world = World(netns, config)
    world.sas()
    world.batch(world.g1, [line for here, net in (("0.0.0.0/0", FOUR[4]), ("::/0", SIX[4]))
                           for line in world.policies(True, here=here) if net in line])
    world.batch(world.g2, world.policies(False) + world.policies(False, here="{2}"))
    for form, family in ("snat -o wan inside the selector", FOUR), ("masquerade -o wan", SIX):
        world.nat(FORMS[form])
        world.nft(world.g1, WHOLE_CONNECTIONS)
        want = INSIDE[family] if "inside" in form else family[2]
        xfrmd.wait_for(lambda: has_backstop(world), xfrmd.LIMIT_S)
        with udp_flow(world.h1, family[3]) as known, udp_flow(world.h1, family[3]) as new:
            equal((form, ask_udp(known, tries=(xfrmd.LIMIT_S,))), (form, want))
            take_backstop(world)
            # By its own source, unless the backstop is back.
            equal((form, ask_udp(new) in (family[0], want)), (form, True))
            # What masquerade has made of it waits for the backstop.
            equal((form, ask_udp(known, tries=[1] * xfrmd.LIMIT_S)), (form, want))
    equal(world.clear(), 0)


def policies_of_a_device(netns):
    """With "dev" of the device by which it leaves: a policy like others, for NAT too."""
    world = World(netns)
    world.sas()
    world.batch(world.g1, [line.replace(" dir out", " dev wan dir out")
                           for line in world.policies(True)])
    world.batch(world.g2, world.policies(False))
    for form, rules in FORMS.items():
        world.nat(rules)
        for family in FOUR, SIX:
            want = protected_source(form, family)
            equal((form, ask_both(world.h1, family[3])), (form, (want, want)))
    equal(world.clear(), 0)


def large_datagrams(netns):
    """In pieces on the way in, in ESP, or in clear; also where the outer path is narrower."""
    world = World(netns)
    world.tunnel()
    for mtu in 1500, 1380:
        for net in world.g1, world.g2:
            net.run("ip", "link", "set", "wan", "mtu", str(mtu), check=True)
        for form in "masquerade -o wan", "snat inside the selector":
            world.nat(FORMS[form])
            for family in FOUR, SIX:
                for size in 1440, 4000, 20000:
                    with udp_flow(world.h1, family[3]) as s:
                        got = mtu, form, size, ask_udp(s, size)
                    equal(got, (mtu, form, size, protected_source(form, family)))
                    if "inside" in form:
                        continue
                    with udp_flow(world.h1, family[6]) as s:
                        equal((mtu, form, size, ask_udp(s, size)), (mtu, form, size, family[2]))
    equal(world.clear(), 0)


def announced_mss(world, family, port):
    """What h1's SYN says to h2, and a byte that crosses."""
    with xfrmd.in_netns(world.h2, family_of(family[3]), socket.SOCK_STREAM) as server, \
            xfrmd.in_netns(world.h1, family_of(family[3]), socket.SOCK_STREAM) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((family[3], port))
        server.listen(1)
        for s in server, client:
            s.settimeout(xfrmd.LIMIT_S)
        client.connect((family[3], port))
        conn, _ = server.accept()
        with conn:
            return conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def syns_announce_what_fits(netns):
    """With NAT as without it."""
    world = World(netns)
    world.tunnel()
    without = {family: announced_mss(world, family, 7100) for family in (FOUR, SIX)}
    for family, most in (FOUR, 1448), (SIX, 1428):
        equal(most - 100 < without[family] < most - 20, True)
    for number, (form, rules) in enumerate(FORMS.items()):
        world.nat(rules)
        for family in FOUR, SIX:
            equal((form, announced_mss(world, family, 7101 + number)), (form, without[family]))


def long_stream(net, far, to, want):
    """XFRMD_NAT_BYTES there, in order and whole, from source @want."""
    size = int(os.environ.get("XFRMD_NAT_BYTES", str(8 << 20)))
    noise = os.urandom(1 << 20)
    got = []

    def blocks():
        for number in range(-(-size // len(noise))):
            yield number.to_bytes(8, "big") + noise

    def receive():
        conn, peer = listener.accept()
        digest = hashlib.sha256()
        while part := conn.recv(1 << 20):
            digest.update(part)
        got.extend((peer[0], digest.digest()))
        conn.close()

    with xfrmd.in_netns(far, family_of(to), socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((to, 7200))
        listener.listen(1)
        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        sent = hashlib.sha256()
        with xfrmd.in_netns(net, family_of(to), socket.SOCK_STREAM) as s:
            s.settimeout(xfrmd.LIMIT_S)
            s.connect((to, 7200))
            for block in blocks():
                s.sendall(block)
                sent.update(block)
        thread.join(xfrmd.LIMIT_S)
    equal(got, [want, sent.digest()])


def long_connections(netns):
    """Protected with their own source, or within a policy, and sent on with their NAT."""
    world = World(netns)
    world.tunnel()
    world.batch(world.g1, crowd(300))
    for form in "masquerade -o wan", "snat -o wan inside the selector":
        world.nat(FORMS[form])
        for family in FOUR, SIX:
            long_stream(world.h1, world.h2, family[3], protected_source(form, family))
    world.nat(FORMS["masquerade -o wan"])
    for family in FOUR, SIX:
        long_stream(world.h1, world.g2, family[6], family[2])
    equal(world.clear(), 0)


def what_nat_leaves_is_asked_for_once(netns):
    """A flow to which nobody answers is new for ever, and yet NAT is asked but once for it."""
    world = World(netns)
    world.tunnel()
    silent = [xfrmd.in_netns(world.h2, family_of(family[3]), socket.SOCK_DGRAM)
              for family in (FOUR, SIX)]
    for rules in OTHERS, FORMS["masquerade -o wan"]:
        world.nat(rules)
        world.nft(world.g1, "add counter inet host asked\n"
                  "add chain inet host out { type filter hook output priority 0; }\n"
                  "add rule inet host out meta l4proto udp udp dport 7009 counter name asked\n")
        before = world.g1.ask("stats")["io"]["nat_tx"]
        for n, (family, server) in enumerate(zip((FOUR, SIX), silent), 1):
            if rules == OTHERS:
                server.bind((family[3], 7009))
            server.settimeout(xfrmd.LIMIT_S)
            with udp_flow(world.h1, family[3], 7009) as s:
                for _ in range(10):
                    s.send(b"x")
                    equal(server.recvfrom(100)[1][:2], s.getsockname()[:2])
            text = world.g1.run("nft", "list", "counter", "inet", "host", "asked").stdout
            equal(int(text.split("packets ")[1].split()[0]), n)
        equal(world.g1.ask("stats")["io"]["nat_tx"], before)


def entries_within_that_go(netns):
    """Conntrack loses a flow before our rules do: one packet is lost, none has its own source."""
    world = World(netns)
    world.tunnel()
    world.nat(FORMS["snat inside the selector"])
    for family in FOUR, SIX:
        with udp_flow(world.h1, family[3]) as s:
            equal(ask_udp(s), INSIDE[family])
            world.g1.run("sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1",
                         "net.netfilter.nf_conntrack_udp_timeout_stream=1", check=True)
            equal(ask_udp(s), INSIDE[family])

            def is_gone():
                text = world.g1.run("cat", "/proc/net/nf_conntrack").stdout
                return f"sport={s.getsockname()[1]} " not in text
            xfrmd.wait_for(is_gone)
            equal(ask_udp(s), INSIDE[family])


def policies_within_that_go(netns):
    """The policy of what NAT gives goes: flows have their own source then, at once."""
    world = World(netns)
    world.sas()
    inside = {verb: [line.replace(f" {family[0]} ", f" {INSIDE[family]} ")
                     for family in (FOUR, SIX)
                     for line in world.policies(True, here="{0}", verb=verb) if family[4] in line]
              for verb in ("add", "delete")}
    world.batch(world.g1, world.policies(True, here="{0}") + inside["add"])
    world.batch(world.g2, world.policies(False))
    world.nat(FORMS["snat inside the selector"])
    with udp_flow(world.h1, FOUR[3]) as four, udp_flow(world.h1, SIX[3]) as six:
        for s, family in (four, FOUR), (six, SIX):
            equal(ask_udp(s), INSIDE[family])
        world.batch(world.g1, inside["delete"])
        for s, family in (four, FOUR), (six, SIX):
            # Conntrack knows both ways by which the flow began.
            equal(ask_udp(s, tries=[1] * 10), family[0])
    equal(world.clear(), 0)


def where_nobody_tells(netns):
    """Without the program behind NAT what a policy wants keeps its source, and nothing is lost."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with("[capture]\ntwin = none\n")
    world.tunnel()
    for form, rules in FORMS.items():
        world.nat(rules)
        for family in FOUR, SIX:
            equal((form, ask_both(world.h1, family[3])), (form, (family[0], family[0])))
    equal(world.clear(), 0)


xfrmd.main([flows_within_a_policy, what_nat_leaves_is_asked_for_once, entries_within_that_go,
            policies_within_that_go, where_nobody_tells, policies_for_any_source,
            without_the_backstop, without_the_filter, policies_of_a_device, large_datagrams,
            syns_announce_what_fits, long_connections])
