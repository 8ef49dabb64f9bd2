#!/usr/bin/env python3
"""The host's NAT beside policies: from which source packets arrive, in clear or not."""
import os
import signal
import socket
import subprocess
import threading

import xfrmd
from xfrmd import SHARED, equal

KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"
# Each family: h1, its net, g1's wan; h2, its net, g2's wan; a server in the clear beyond g2
FOUR = ("10.0.1.2", "10.0.1.0/24", "192.0.2.1", "10.0.2.2", "10.0.2.0/24", "192.0.2.2",
        "203.0.113.2")
SIX = ("fd01::2", "fd01::/64", "2001:db8::1", "fd02::2", "fd02::/64", "2001:db8::2",
       "2001:db8:1::2")
INSIDE = {FOUR: "10.0.1.77", SIX: "fd01::77"}
PORT = 7000

CHAINS = "add table inet host\n" \
         "add chain inet host post { type nat hook postrouting priority srcnat; }\n" \
         "add chain inet host pre { type nat hook prerouting priority dstnat; }\n"
SNAT = "add rule inet host post ip saddr 10.0.1.0/24 snat ip to {}\n" \
       "add rule inet host post ip6 saddr fd01::/64 snat ip6 to {}\n"
OTHERS = "add rule inet host post ip saddr 10.0.7.0/24 masquerade\n"
FORWARDS = "".join(f"add rule inet host pre {ip} daddr {here} {proto} dport {port} "
                   f"dnat {ip} to {to}:7000\n"
                   for ip, here, tos in (("ip", "192.0.2.1", ("10.0.1.2", "10.0.1.1", "10.0.1.2")),
                                         ("ip6", "2001:db8::1",
                                          ("[fd01::2]", "[fd01::1]", "[fd01::2]")))
                   for proto in ("tcp", "udp") for port, to in zip((7001, 7002, 7003), tos)) \
    + "add rule inet host pre ip daddr 10.0.1.50 dnat ip to 10.0.1.2\n" \
      "add rule inet host pre ip6 daddr fd01::50 dnat ip6 to fd01::2\n"
SEE = "add table inet see\nadd counter inet see clear\n" \
      "add chain inet see pre { type filter hook prerouting priority -300; }\n" \
      "add rule inet see pre iifname wan ip daddr 10.0.2.0/24 counter name clear drop\n" \
      "add rule inet see pre iifname wan ip6 daddr fd02::/64 counter name clear drop\n"
FORMS = {
    "masquerade -o wan": "add rule inet host post oifname wan masquerade\n",
    "masquerade ! -o lan": "add rule inet host post oifname != lan masquerade\n",
    "masquerade all": "add rule inet host post masquerade\n",
    "snat out of the selector": SNAT.format("192.0.2.1", "2001:db8::1"),
    "snat inside the selector": SNAT.format("10.0.1.77", "fd01::77"),
    "snat -o wan inside the selector":
        SNAT.replace("post ", "post oifname wan ").format("10.0.1.77", "fd01::77"),
}


def protected_source(form, family):
    """What a policy wants keeps its source, but where NAT gives it one that a policy wants."""
    return INSIDE[family] if "inside" in form else family[0]


class World:
    """h1 - g1 = g2 - h2, daemons in g1 and g2, echo servers in h2 and beyond g2."""

    def __init__(self, netns, config=""):
        self.h1, self.g1, self.g2, self.h2 = (netns() for _ in range(4))
        for a, dev, b, peer in ((self.h1, "eth0", self.g1, "lan"), (self.g1, "wan", self.g2, "wan"),
                                (self.g2, "lan", self.h2, "eth0")):
            subprocess.run(["ip", "link", "add", dev, "netns", a.name, "type", "veth", "peer",
                            "name", peer, "netns", b.name], check=True)
        for net, dev, addrs in ((self.h1, "eth0", "10.0.1.2/24 fd01::2/64"),
                                (self.g1, "lan", "10.0.1.1/24 fd01::1/64"),
                                (self.g1, "wan", "192.0.2.1/24 2001:db8::1/64"),
                                (self.g2, "wan", "192.0.2.2/24 2001:db8::2/64"),
                                (self.g2, "lan", "10.0.2.1/24 fd02::1/64"),
                                (self.g2, "lo", "203.0.113.2/32 2001:db8:1::2/128"),
                                (self.h2, "eth0", "10.0.2.2/24 fd02::2/64")):
            net.run("ip", "link", "set", dev, "up", check=True)
            for addr in addrs.split():
                net.run("ip", "addr", "add", addr, "dev", dev, *["nodad"] * (":" in addr),
                        check=True)
        for net, *hops in ((self.h1, "10.0.1.1", "fd01::1"), (self.g1, "192.0.2.2", "2001:db8::2"),
                           (self.g2, "192.0.2.1", "2001:db8::1"), (self.h2, "10.0.2.1", "fd02::1")):
            for hop in hops:
                net.run("ip", "route", "add", "default", "via", hop, check=True)
        for net in self.g1, self.g2:
            net.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        # What reaches g2 in clear for h2 (what was decrypted comes from the TUN).
        self.nft(self.g2, SEE)
        self.g1.start_with(config)
        self.g2.start()
        self.servers = [s for family in (FOUR, SIX) for s in
                        (*serve(self.h2, family[3], PORT), *serve(self.g2, family[6], PORT))]

    def nft(self, net, text, **options):
        done = net.run("nft", "-f", "-", input=text, **options)
        equal(done.stderr, "")

    def nat(self, rules):
        """This and nothing else is g1's NAT; "": g1 has none."""
        if rules is not None:
            rules = CHAINS + rules
        self.nft(self.g1, "add table inet host\ndelete table inet host\n" + (rules or ""))
        xfrmd.wait_for(lambda: self.g1.ask("status")["capture"]["nat"] == (rules is not None))

    def batch(self, net, lines):
        done = net.run(xfrmd.EXEC, "ip", "-batch", "-", input="\n".join(lines) + "\n")
        equal(done.stderr, "")

    def sas(self):
        for net in self.g1, self.g2:
            self.batch(net, [f"xfrm state add src {s} dst {d} proto esp spi {spi} reqid 1 mode "
                             f"tunnel replay-window 32 flag af-unspec aead rfc4106(gcm(aes)) {KEY} "
                             "128" for s, d, spi in (("192.0.2.1", "192.0.2.2", "0x1000"),
                                                     ("192.0.2.2", "192.0.2.1", "0x2000"))])

    @staticmethod
    def policies(near, here="{1}", there="{4}", verb="add"):
        """What one gateway wants of the traffic between @here and @there (fields of FOUR, SIX)."""
        lines = []
        for family in FOUR, SIX:
            a, b = here.format(*family), there.format(*family)
            out, back = ("192.0.2.1", "192.0.2.2"), ("192.0.2.2", "192.0.2.1")
            if not near:
                a, b, out, back = b, a, back, out
            for direction, src, dst, ends in (("out", a, b, out), ("in", b, a, back),
                                              ("fwd", b, a, back)):
                tmpl = f" tmpl src {ends[0]} dst {ends[1]} proto esp reqid 1 mode tunnel"
                lines.append(f"xfrm policy {verb} src {src} dst {dst} dir {direction}"
                             + (tmpl if verb == "add" else ""))
        return lines

    def tunnel(self):
        self.sas()
        self.batch(self.g1, self.policies(True))
        self.batch(self.g2, self.policies(False))

    def clear(self):
        """Packets for h2 that came to g2 in clear."""
        text = self.g2.run("nft", "list", "counter", "inet", "see", "clear").stdout
        return int(text.split("packets ")[1].split()[0])

    def stat(self, name):
        return self.g1.ask("stats")["capture"][name]

    def sent_on(self):
        """Packets that g1 has captured though no policy wants them."""
        return self.g1.ask("stats")["io"]["clear_tx"]


def family_of(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def serve(net, addr, port):
    """UDP and TCP servers that answer with the source that they see."""
    udp = xfrmd.in_netns(net, family_of(addr), socket.SOCK_DGRAM)
    tcp = xfrmd.in_netns(net, family_of(addr), socket.SOCK_STREAM)
    for s in udp, tcp:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((addr, port))
    tcp.listen(16)

    def serve_udp():
        while True:
            data, peer = udp.recvfrom(65536)
            udp.sendto(peer[0].encode() + b" " + data, peer)

    def talk(conn, peer):
        try:
            conn.sendall(peer[0].encode() + b" ")
            while data := conn.recv(65536):
                conn.sendall(data)
        except OSError:
            pass
        conn.close()

    def serve_tcp():
        while True:
            conn, peer = tcp.accept()
            threading.Thread(target=talk, args=(conn, peer), daemon=True).start()

    for loop in serve_udp, serve_tcp:
        threading.Thread(target=loop, daemon=True).start()
    return udp, tcp


def udp_flow(net, to, port=PORT, source=None):
    s = xfrmd.in_netns(net, family_of(to), socket.SOCK_DGRAM)
    if source:
        s.bind((source, 0))
    s.connect((to, port))
    return s


def ask_udp(s, size=16, tries=(0.3, 0.5, 1, 2, 4)):
    """The source that the server sees; None: no answer to any of a few."""
    asked = [os.urandom(size) for _ in tries]
    for data, wait in zip(asked, tries):
        s.settimeout(wait)
        try:
            s.send(data)
            while True:
                source, _, back = s.recv(65536).partition(b" ")
                if back in asked:  # else of an earlier call
                    return source.decode()
        except OSError:
            continue
    return None


def ask_tcp(net, to, rounds=3, port=PORT, source=None):
    """The same by TCP: several rounds, so that more than the first packets live."""
    s = xfrmd.in_netns(net, family_of(to), socket.SOCK_STREAM)
    s.settimeout(8)
    try:
        if source:
            s.bind((source, 0))
        s.connect((to, port))
        answer = b""
        while b" " not in answer:
            answer += s.recv(64)
        for i in range(rounds):
            data = bytes([65 + i]) * 3000
            s.sendall(data)
            back = b""
            while len(back) < len(data):
                part = s.recv(65536)
                if not part:
                    return None
                back += part
            equal(back, data)
        return answer.partition(b" ")[0].decode()
    except OSError:
        return None
    finally:
        s.close()


def ask_both(net, to):
    with udp_flow(net, to) as s:
        return ask_udp(s), ask_tcp(net, to)


def forms_of_nat(netns):
    """New flows: what a policy wants keeps its source, in ESP; what none wants gets its NAT."""
    world = World(netns)
    world.tunnel()
    for form, rules in FORMS.items():
        world.nat(rules)
        for family in FOUR, SIX:
            want = protected_source(form, family)
            equal((form, ask_both(world.h1, family[3])), (form, (want, want)))
        for family in FOUR, SIX:
            if "inside" in form:
                continue
            got = form, ask_both(world.h1, family[6])
            equal(got, (form, (family[2], family[2])))
    equal(world.clear(), 0)
    equal(world.stat("nat_dropped"), 0)


def crowd(n):
    """@n policies out for others of the same destinations."""
    near_by = (("10.9.{}.{}/32", "203.0.113.0/24"),
               ("fd09::{:x}:{:x}/128", "2001:db8:1::/64"))
    return [f"xfrm policy add src {src.format(i // 200, i % 200 + 1)} dst {dst} dir out tmpl src "
            "192.0.2.1 dst 192.0.2.2 proto esp reqid 1 mode tunnel"
            for i in range(n) for src, dst in near_by]


def captured_by_destination(world):
    """Does what no policy wants go through the daemon?"""
    before = world.sent_on()
    for family in FOUR, SIX:
        ask_both(world.h1, family[6])
    return world.sent_on() > before


def in_a_crowd(netns, policies):
    """Many policies for the same destinations: what none of them wants is not captured at all."""
    world = World(netns)
    world.tunnel()
    world.batch(world.g1, crowd(policies // 2))
    # Not translated here; the client behind finds its way back.
    for family in FOUR, SIX:
        world.g2.run("ip", "route", "replace", family[1], "via", family[2], check=True)
    xfrmd.wait_for(lambda: not captured_by_destination(world))
    for form, rules in {**FORMS, "other hosts only": OTHERS}.items():
        world.nat(rules)
        for family in FOUR, SIX:
            want = protected_source(form, family)
            equal((form, ask_both(world.h1, family[3])), (form, (want, want)))
            if "inside" in form:
                continue
            want = family[0] if rules == OTHERS else family[2]
            before = world.sent_on()
            for flow in range(2):
                equal((form, flow, ask_both(world.h1, family[6])), (form, flow, (want, want)))
            equal((form, world.sent_on() - before), (form, 0))
    equal(world.clear(), 0)


def many_of_the_same_destinations(netns):
    in_a_crowd(netns, 600)


def some_of_the_same_destinations(netns):
    in_a_crowd(netns, 100)


def caught_too_much(netns):
    """A policy that lets pass by a device alone is none that rules can have: what it makes the
    daemon send on gets the NAT that it would have had."""
    world = World(netns)
    world.tunnel()
    for family in FOUR, SIX:
        ends = "src {1} dst {6}".format(*family)
        world.batch(world.g1, [f"xfrm policy add {ends} dir out priority 10 tmpl src 192.0.2.1 "
                               "dst 192.0.2.2 proto esp reqid 1 mode tunnel",
                               f"xfrm policy add {ends} dev wan dir out priority 5"])
        world.g2.run("ip", "route", "replace", family[1], "via", family[2], check=True)
    for form, rules in {**FORMS, "other hosts only": OTHERS}.items():
        if "inside" in form:
            continue
        world.nat(rules)
        for family in FOUR, SIX:
            want = family[0] if rules == OTHERS else family[2]
            before = world.sent_on()
            for flow in range(2):
                equal((form, flow, ask_both(world.h1, family[6])), (form, flow, (want, want)))
            equal((form, world.sent_on() > before), (form, True))
    equal(world.clear(), 0)


def let_pass_by_device(world, host, family):
    """What @host sends to the server in the clear the daemon sends on: a policy that lets pass by a
    device alone is none that rules can have."""
    ends = f"src {host} dst {family[6]}"
    world.batch(world.g1, [f"xfrm policy add {ends} dir out priority 10 tmpl src 192.0.2.1 dst "
                           "192.0.2.2 proto esp reqid 1 mode tunnel",
                           f"xfrm policy add {ends} dev wan dir out priority 5"])


def sent_on_into_a_policy(netns):
    """What the daemon sends on is looked at again when NAT has changed it, as Linux does."""
    world = World(netns)
    world.sas()
    for family in FOUR, SIX:
        let_pass_by_device(world, family[0], family)
        for net, near in (world.g1, True), (world.g2, False):
            world.batch(net, world.policies(near, here=INSIDE[family], there=family[6])[:3])
    world.nft(world.g2, "add counter inet see into\n"
              "add rule inet see pre iifname wan ip saddr 10.0.1.0/24 counter name into\n"
              "add rule inet see pre iifname wan ip6 saddr fd01::/64 counter name into\n")
    world.nat(FORMS["snat inside the selector"])
    for family in FOUR, SIX:
        # As it came, in pieces that grow by what NAT brings them into, and in many.
        for size in 16, 1450, 4000:
            with udp_flow(world.h1, family[6]) as s:
                equal((size, ask_udp(s, size)), (size, INSIDE[family]))
        equal(ask_tcp(world.h1, family[6], 20), INSIDE[family])
    text = world.g2.run("nft", "list", "counter", "inet", "see", "into").stdout
    equal(int(text.split("packets ")[1].split()[0]), 0)


def sent_on_as_it_is(netns, config=""):
    """Where programs do not know whether a policy wants what NAT has made of it, the daemon does,
    which has it sent on once more. What NAT leaves alone it does not see again. Fragments are no
    larger than they came, for a path that is narrow further on."""
    world = World(netns, config)
    world.sas()
    for net, dev in (world.h1, "eth0"), (world.g2, "wan"):
        net.run("ip", "link", "set", dev, "mtu", "1400", check=True)
    for family in FOUR, SIX:
        let_pass_by_device(world, family[0], family)
        let_pass_by_device(world, INSIDE[family], family)
        world.g2.run("ip", "route", "replace", family[1], "via", family[2], check=True)
    for rules in FORMS["snat inside the selector"], OTHERS:
        world.nat(rules)
        before = world.stat("backstop_captured")
        for family in FOUR, SIX:
            want = family[0] if rules == OTHERS else INSIDE[family]
            equal(ask_both(world.h1, family[6]), (want, want))
            with udp_flow(world.h1, family[6]) as s:
                equal(ask_udp(s, 1450), want)
        equal(world.stat("backstop_captured") > before, rules != OTHERS)


def sent_on_as_it_is_without_links(netns):
    sent_on_as_it_is(netns, "[capture]\ntwin = tc\n")


def forwarded_and_masqueraded(netns):
    """Plaintext is judged by the addresses with which it arrived, as the kernel does."""
    world = World(netns)
    world.sas()
    world.batch(world.g1, [line for line in world.policies(True) if " dir out" in line])
    world.batch(world.g1, [line for there in ("0.0.0.0/0", "::/0") for line in
                           world.policies(True, there=there)
                           if " dir out" not in line and (":" in there) == ("fd01" in line)])
    # A port that no packet has any more when it is forwarded.
    world.batch(world.g1, [f"xfrm policy add dir fwd src {any} dst {family[2]} proto {proto} "
                           "dport 7003 action block" for proto in ("tcp", "udp")
                           for any, family in (("0.0.0.0/0", FOUR), ("::/0", SIX))])
    world.batch(world.g2, world.policies(False))
    world.nat(FORWARDS + FORMS["masquerade -o wan"])
    world.servers += [s for addr in ("10.0.1.2", "fd01::2") for s in serve(world.h1, addr, PORT)]
    world.servers += [s for addr in ("10.0.1.1", "fd01::1") for s in serve(world.g1, addr, PORT)]
    for family in FOUR, SIX:
        equal(ask_both(world.h1, family[3]), (family[0], family[0]))
        # Replies come to 10.0.1.2, but they arrived for 192.0.2.1, which no policy selects.
        equal(ask_both(world.h1, family[6]), (family[2], family[2]))
        for port in 7001, 7002:
            with udp_flow(world.g2, family[2], port, family[6]) as s:
                equal((port, ask_udp(s)), (port, family[6]))
            equal((port, ask_tcp(world.g2, family[2], port=port, source=family[6])),
                  (port, family[6]))
        for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
            with xfrmd.in_netns(world.g2, family_of(family[6]), kind) as s:
                s.settimeout(0.3)
                try:
                    s.bind((family[6], 0))
                    s.connect((family[2], 7003))
                    s.send(b"x")
                    raise AssertionError(f"port 7003 is open: {s.recv(100)}")
                except TimeoutError:
                    pass
        before = world.stat("plaintext_dropped")
        # To the address itself, and to one of the selector that is translated: not in clear.
        for addr in family[0], family[0].replace("2", "50"):
            world.g2.run("ip", "route", "replace", addr, "via", family[2], check=True)
            with udp_flow(world.g2, addr, source=family[6]) as s:
                equal((addr, ask_udp(s, tries=(0.3,))), (addr, None))
        equal(world.stat("plaintext_dropped"), before + 2)


def replies_of_forwards(netns, config=""):
    """Captured by the host behind, translated on their way, and then of nobody's policy."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with(config)
    world.sas()
    world.batch(world.g1, [line for there in ("203.0.113.0/24", "2001:db8:1::/64") for line in
                           world.policies(True, there=there)
                           if " dir out" in line and (":" in there) == ("fd01" in line)])
    world.nat(FORWARDS)
    world.servers += [s for addr in ("10.0.1.2", "fd01::2") for s in serve(world.h1, addr, PORT)]
    before = world.g1.ask("stats")["io"]["clear_tx"]
    for family in FOUR, SIX:
        with udp_flow(world.g2, family[2], 7001, family[6]) as s:
            equal(ask_udp(s), family[6])
        equal(ask_tcp(world.g2, family[2], port=7001, source=family[6]), family[6])
    equal(world.g1.ask("stats")["io"]["clear_tx"] > before, True)


def replies_of_forwards_without_links(netns):
    replies_of_forwards(netns, "[capture]\ntwin = tc\n")


def entries_that_stand(netns):
    """Flows that live when a policy comes or goes: protected at once, or given their NAT."""
    world = World(netns)
    world.sas()
    world.nat(FORMS["snat out of the selector"])
    world.nft(world.g2, "flush chain inet see pre")
    flows = [(family, udp_flow(world.h1, family[3])) for family in (FOUR, SIX)]
    for family, s in flows:
        equal(ask_udp(s), family[2])
    before = world.stat("conntrack_deleted")
    world.nft(world.g2, SEE)
    world.batch(world.g1, world.policies(True))
    world.batch(world.g2, world.policies(False))
    for family, s in flows:
        equal(ask_udp(s), family[0])
    equal(world.clear(), 0)
    xfrmd.wait_for(lambda: world.stat("conntrack_deleted") == before + 2)
    world.nft(world.g2, "flush chain inet see pre")
    for net, near in (world.g1, True), (world.g2, False):
        world.batch(net, world.policies(near, verb="del"))
    xfrmd.wait_for(lambda: world.stat("conntrack_deleted") == before + 4)
    for family, s in flows:
        equal(ask_udp(s), family[2])
        s.close()


def entries_made_without_our_chains(netns):
    """What got its NAT while ours were missing gets its own source back when they stand again."""
    world = World(netns)
    world.g1.stop()
    # The twin lets no such entry come into being.
    world.g1.start_with("[capture]\ntwin = none\n")
    world.tunnel()
    flows = [(family, udp_flow(world.h1, family[3])) for family in (FOUR, SIX)]
    world.g1.daemon.send_signal(signal.SIGSTOP)
    world.nft(world.g1, CHAINS + FORMS["masquerade all"])
    for _, s in flows:
        s.send(b"x")

    def entries_are_there():
        text = world.g1.run("cat", "/proc/net/nf_conntrack").stdout
        return all(f"sport={s.getsockname()[1]} " in text for _, s in flows)
    xfrmd.wait_for(entries_are_there, 20)
    world.g1.daemon.send_signal(signal.SIGCONT)
    for family, s in flows:
        def has_its_source():
            return ask_udp(s) == family[0]
        xfrmd.wait_for(has_its_source, 20)
        s.close()


def another_source_is_no_way_out(netns):
    """What gets its NAT while our table is gone is what it was before NAT, for policies."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with(SHARED)
    world.tunnel()
    world.nat(FORMS["masquerade -o wan"])
    before = world.stat("backstop_dropped")
    world.g1.daemon.send_signal(signal.SIGSTOP)
    world.nft(world.g1, "delete table inet xfrmd")
    for family in FOUR, SIX:
        with udp_flow(world.h1, family[3]) as s:
            equal(ask_udp(s, tries=(0.3,)), None)
        # What no policy wants has its NAT and passes.
        with udp_flow(world.h1, family[6]) as s:
            equal(ask_udp(s), family[2])
    world.g1.daemon.send_signal(signal.SIGCONT)
    equal((world.clear(), world.stat("backstop_dropped") - before), (0, 2))


def without_links(netns, config, stand_still):
    """The same where no links are at netfilter's hooks: the programs at devices ask conntrack."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with(config)
    world.tunnel()
    world.batch(world.g1, [f"xfrm policy add src {src} dst {dst} proto udp {port} dir out tmpl src "
                           "192.0.2.1 dst 192.0.2.2 proto esp reqid 1 mode tunnel"
                           for src, dst in ((FOUR[1], FOUR[6]), (SIX[1], SIX[6]))
                           for port in ("dport 7003", "sport 7000")])
    world.nat(FORWARDS + FORMS["masquerade -o wan"])
    world.servers += [s for addr in ("10.0.1.2", "fd01::2") for s in serve(world.h1, addr, PORT)]
    world.servers += [s for family in (FOUR, SIX) for s in serve(world.g2, family[6], 7003)]
    unwanted = [(family, size) for family in (FOUR, SIX) for size in (16, 3000)]

    def pass_with_nat():
        """What no policy wants: pieces of datagrams, too, whose ports their entry tells."""
        for family, size in unwanted:
            with udp_flow(world.h1, family[6]) as s:
                equal((family[6], size, ask_udp(s, size)), (family[6], size, family[2]))

    pass_with_nat()
    before = world.stat("backstop_dropped")
    stand_still(world.g1)
    world.nft(world.g1, "delete table inet xfrmd")
    flows = [udp_flow(world.h1, family[3]) for family in (FOUR, SIX)]
    # The first packet of a flow, and one whose entry stands.
    for s in flows + flows:
        equal(ask_udp(s, tries=(0.3,)), None)
    pass_with_nat()
    for family, size in unwanted:
        with udp_flow(world.h1, family[6], 7003) as s:
            equal((family[6], size, ask_udp(s, size, tries=(0.3,))), (family[6], size, None))
        # Replies of a port that is forwarded: by what they were before NAT, too.
        with udp_flow(world.g2, family[2], 7001, family[6]) as s:
            equal((family[2], size, ask_udp(s, size, tries=(0.3,))), (family[2], size, None))
    for s in flows:
        s.close()
    equal(world.clear(), 0)
    return world, before


def another_source_is_no_way_out_of_a_dead_daemon(netns):
    without_links(netns, "", lambda net: net.stop(signal.SIGKILL))


def another_source_is_no_way_out_without_links(netns, form):
    world, before = without_links(netns, SHARED + f"twin = {form}\n",
                                  lambda net: net.daemon.send_signal(signal.SIGSTOP))
    world.g1.daemon.send_signal(signal.SIGCONT)
    # Of each family two to h2, two small ones, and of two large ones the first piece: the kernel
    # does not send the others then.
    equal(world.stat("backstop_dropped") - before, 12)


def another_source_is_no_way_out_with_tc(netns):
    another_source_is_no_way_out_without_links(netns, "tc")


def another_source_is_no_way_out_without_a_twin(netns):
    another_source_is_no_way_out_without_links(netns, "none")


def nat_that_comes_before_our_chains(netns):
    """What got another source on its way to the TUN, where no links keep it: not sent on."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with("[capture]\ntwin = tc\n")
    world.tunnel()
    flows = [(family, udp_flow(world.h1, family[3])) for family in (FOUR, SIX)]
    world.g1.daemon.send_signal(signal.SIGSTOP)
    world.nft(world.g1, CHAINS + FORMS["snat out of the selector"])
    for _, s in flows:
        s.send(b"x")
    world.g1.daemon.send_signal(signal.SIGCONT)
    for family, s in flows:
        xfrmd.wait_for(lambda to=s, family=family: ask_udp(to) == family[0], 20)
        s.close()
    equal((world.clear(), world.stat("backstop_dropped") >= 2), (0, True))


def what_stays_in_its_policy(netns):
    """Where nothing but tc captures, what NAT leaves in a policy is protected as it is then."""
    world = World(netns)
    world.g1.stop()
    world.g1.start_with("[capture]\nmode = tc\ntwin = tc\n")
    world.tunnel()
    world.nft(world.g1, CHAINS + FORMS["snat inside the selector"])
    for family in FOUR, SIX:
        with udp_flow(world.h1, family[3]) as s:
            equal(ask_udp(s), INSIDE[family])
    equal(world.clear(), 0)


def no_nat_no_chains(netns):
    """A namespace without NAT has no nat chain of ours, and no connection tracking by us."""
    world = World(netns)
    world.tunnel()

    def ours():
        return world.g1.run("nft", "list", "table", "inet", "xfrmd", check=True).stdout

    def tracks():
        ask_both(world.h1, FOUR[3])
        return "10.0.1.2" in world.g1.run("cat", "/proc/net/nf_conntrack").stdout

    equal(("type nat" in ours(), " ct " in ours(), tracks()), (False, False, False))
    world.nat("")
    equal(("type nat" in ours(), " ct " in ours(), tracks()), (True, True, True))
    world.nat(None)
    equal(("type nat" in ours(), " ct " in ours()), (False, False))
    # A daemon that finds NAT when it starts; and one that finds what an earlier one left.
    world.nat("")
    world.g1.stop()
    world.nft(world.g1, "delete table inet host")
    equal("type nat" in ours(), True)
    world.g1.start()
    equal("type nat" in ours(), False)


if __name__ == "__main__":
    xfrmd.main([forms_of_nat, some_of_the_same_destinations, many_of_the_same_destinations,
                caught_too_much, sent_on_into_a_policy, sent_on_as_it_is,
                sent_on_as_it_is_without_links, forwarded_and_masqueraded, replies_of_forwards,
                replies_of_forwards_without_links, entries_that_stand,
                entries_made_without_our_chains, another_source_is_no_way_out,
                another_source_is_no_way_out_of_a_dead_daemon,
                another_source_is_no_way_out_with_tc, another_source_is_no_way_out_without_a_twin,
                nat_that_comes_before_our_chains, what_stays_in_its_policy, no_nat_no_chains])
