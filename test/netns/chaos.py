#!/usr/bin/env python3
"""Seeded rounds of what others do to our part of the kernel: nothing in clear, nothing forged in.

chaos.py BUILD [--rounds N] [--seed S] [--from R] [--only EVENT,...] [--owner yes|no]
         [--tcx yes|no] [--config "[io]..."]
A failure prints seed, round and events; --from R --rounds 1 is that round in a new network, and
--from the first of its ten repeats what led to it. Each ten have another form of twin.
"""
import argparse
import os
import random
import signal
import subprocess
import time

import tcx
import xfrmd
from chaos_traffic import Traffic, own_run
from nat_table import CHAINS, FORMS, World
from healing import TUN, delete_a_rule, flush_rules, ip, nft, parts, rename_tun, what_stands

BLOCK = 10  # rounds in one network
TWINS = ("auto", "tc", "none")
HEALED_S = 40  # a part that is lost often is repaired once in 10 s
SAYS = {"table": "table xfrmd", "rule": "the ip rule for captured packets",
        "route": "the route of captured packets", "tun": f"TUN {TUN}",
        "backstop": {"no": "the tc filter of wan", "yes": "a program's link at wan"}}
FOREIGN = ("accept", "counter", "ip daddr 10.0.0.0/8 accept", "meta l4proto udp counter accept",
           "ip6 daddr fd00::/8 accept", "ip daddr 203.0.113.77 drop", "meta mark 0 accept")


class Chaos:
    """The network, its traffic, and what has been done to it."""

    def __init__(self, netns, rng, options, twin):
        self.rng, self.options = rng, options
        self.config = (f"[capture]\nowner = {options.owner}\ntcx = {options.tcx}\n" +
                       (options.config or f"twin = {twin}\n"))
        self.world = World(netns)
        self.g1 = self.world.g1
        self.away = netns()
        self.saved = self.nat = None
        self.foreign = False
        self.log = []  # what has been done, for who repeats it
        self.healing_s = []
        self.spi = 0x10000
        self.extra = set()  # networks of policies beside
        self.g1.stop()
        # nft before 1.1 does not read an orphan's flags: what is saved could not be restored.
        self.g1.run("nft", "flush", "ruleset", check=True)
        self.g1.start_with(self.config)
        self.protect()
        self.traffic = Traffic(self.world)
        self.traffic.flow_again()
        self.save()

    def has_links(self):
        return self.g1.ask("status")["capture"]["twin"] == "netfilter"

    def say(self, text):
        self.log.append(text)
        if self.options.verbose:
            print(f"# {time.strftime('%T')} {text}", flush=True)

    # --- what the administrator of g1 does ---

    def protect(self):
        for net, near in (self.g1, True), (self.world.g2, False):
            if "dir" not in net.xfrm("policy", check=True).stdout:
                self.world.batch(net, World.policies(near))
        self.add_sas()

    def add_sas(self):
        """New ones on both sides: numbers begin anew."""
        self.spi += 2
        for net in self.g1, self.world.g2:
            net.xfrm("state", "flush", check=True)
            self.world.batch(net, [
                f"xfrm state add src {a} dst {b} proto esp spi {spi} reqid 1 mode tunnel "
                f"replay-window 32 flag af-unspec aead rfc4106(gcm(aes)) 0x{spi:040x} 128"
                for a, b, spi in (("192.0.2.1", "192.0.2.2", self.spi),
                                  ("192.0.2.2", "192.0.2.1", self.spi + 1))])

    def start(self):
        self.g1.start_with(self.config)
        self.add_sas()

    def launch(self):
        """Start the daemon and do not wait for it."""
        path = f"/tmp/{self.g1.name}.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(self.config)
        with open(f"/tmp/{self.g1.name}.log", "a", encoding="ascii") as log:
            self.g1.daemon = subprocess.Popen(
                self.g1.argv(xfrmd.DAEMON, "--config", path), stderr=log)

    def address_wan(self):
        self.g1.run("sh", "-c", "ip link set wan up; ip addr replace 192.0.2.1/24 dev wan; "
                    "ip addr replace 2001:db8::1/64 dev wan nodad; "
                    "ip route replace default via 192.0.2.2; "
                    "ip route replace default via 2001:db8::2", check=True)

    def save(self):
        self.saved = self.g1.run("nft", "list", "ruleset", check=True).stdout

    def set_nat(self, rules):
        self.nat = rules
        self.world.nft(self.g1, "add table inet host\ndelete table inet host\n"
                       + (CHAINS.replace("srcnat", self.nat_priority) + rules if rules else ""))

    nat_priority = "srcnat"

    def change_nat(self):
        form = self.rng.choice([None, *FORMS, "masquerade of the hosts"])
        self.nat_priority = self.rng.choice(["srcnat", "srcnat - 1", "srcnat + 50", "-50", "300"])
        self.say(f"NAT: {form} at {self.nat_priority}")
        self.set_nat({**FORMS, None: None, "masquerade of the hosts":
                      "add rule inet host post ip saddr 10.0.0.0/8 masquerade\n"
                      "add rule inet host post ip6 saddr fd00::/8 masquerade\n"}[form])

    def put_back_nat(self):
        """What went with the rule set of somebody else; also an old one that came with it."""
        self.set_nat(self.nat)

    def change_foreign(self):
        text = "add table inet foreign\ndelete table inet foreign\n"
        self.foreign = not self.foreign or self.rng.random() < 0.5
        if self.foreign:
            hook = self.rng.choice(["prerouting", "input", "forward", "output", "postrouting"])
            priority, rule = self.rng.randint(-450, 450), self.rng.choice(FOREIGN)
            self.say(f"foreign rule at {hook} {priority}: {rule}")
            text += "add table inet foreign\nadd chain inet foreign c { type filter hook " \
                    f"{hook} priority {priority}; }}\nadd rule inet foreign c {rule}\n"
        else:
            self.say("foreign rules go")
        self.world.nft(self.g1, text)

    def beside(self):
        """Policies of nobody's traffic come, change and go, now and then many."""
        lines = []
        for _ in range(self.rng.choice([1, 5, 40])):
            number = self.rng.randrange(400)
            verb = "delete" if number in self.extra and self.rng.random() < 0.5 else "update"
            (self.extra.discard if verb == "delete" else self.extra.add)(number)
            for direction in "out", "in", "fwd":
                pair = ["10.9.0.0/16", f"10.10.{number % 250}.0/24"]
                if direction != "out":
                    pair.reverse()
                tail = " tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 1 mode tunnel"
                lines.append(f"xfrm policy {verb} src {pair[0]} dst {pair[1]} dir {direction} "
                             f"priority {1000 + number}" + tail * (verb == "update"))
        self.say(f"{len(lines)} policies beside")
        return subprocess.Popen(self.g1.argv(xfrmd.EXEC, "ip", "-force", "-batch", "-"),
                                stdin=subprocess.PIPE, stderr=subprocess.DEVNULL), lines

    # --- what is looked at ---

    def baseline(self):
        return what_stands(self.g1)

    def heal(self, before, counts, log, lost):
        """All stands as @before; what was @lost is counted and named. Counts: None: new daemon."""
        begin = time.monotonic()

        def all_in_force():
            now = parts(self.g1)
            return all(part["in_force"] for part in now.values()) and (counts is None or all(
                now[name]["repairs"] > counts[name]["repairs"] for name in lost))

        def all_stands():
            return what_stands(self.g1) == before
        xfrmd.wait_for(all_in_force, HEALED_S)
        self.healing_s.append(time.monotonic() - begin)
        if before:
            try:
                xfrmd.wait_for(all_stands, HEALED_S)
            except AssertionError as error:
                raise AssertionError(f"{what_stands(self.g1)} is not {before}") from error
        said = self.g1.text()[log:]
        for name in lost if counts else ():
            says = SAYS[name]
            xfrmd.holds(said, says if isinstance(says, str) else says[self.options.tcx])
        self.traffic.flow_again()

    def judge(self, apart_out, apart_in, tally):
        clear, forged = self.traffic.take()
        apart_in = apart_in or "twin = none" in self.config  # then rules alone keep plaintext out
        for name, seen, apart in ("clear", clear, apart_out), ("forged", forged, apart_in):
            tally["apart " * apart + name] += sum(seen.values())
            if seen and not apart:
                raise AssertionError(f"{'in clear out' if seen is clear else 'forged in'}: {seen}")

    def close(self):
        self.traffic.close()
        if os.path.exists(f"/tmp/{self.g1.name}.conf"):
            os.unlink(f"/tmp/{self.g1.name}.conf")


# --- events: what somebody else does to g1 ---

def flush_chain(chaos):
    chain = chaos.rng.choice(["prerouting", "output", "outbound", "postrouting", "input",
                              "forward"])
    chaos.g1.run("nft", "flush", "chain", "inet", "xfrmd", chain, check=True)


def delete_chain(chaos):
    chain = chaos.rng.choice(["prerouting", "output", "input", "forward"])
    chaos.g1.run("nft", f"flush chain inet xfrmd {chain}; delete chain inet xfrmd {chain}",
                 check=True)


def flush_ruleset(chaos):
    chaos.g1.run("nft", "flush", "ruleset", check=True)
    chaos.foreign = False


def restore(chaos):
    """As a firewall does: what was saved, with our table as it was then."""
    chaos.g1.run("nft", "-f", "-", input="flush ruleset\n" + chaos.saved, check=True)


def restore_on_top(chaos):
    """Where sets have been made anew since, nft refuses that; then as a firewall does it."""
    done = chaos.g1.run("nft", "-f", "-", input=chaos.saved)
    if done.returncode:
        chaos.say(f"refused: {done.stderr.splitlines()[0]}")
        restore(chaos)


def a_rule_in_ours(chaos):
    chain = chaos.rng.choice(["prerouting", "output", "postrouting", "input", "forward"])
    chaos.g1.run("nft", "insert", "rule", "inet", "xfrmd", chain, "accept", check=True)


def flush_rules_6(chaos):
    chaos.g1.run("sh", "-c", "ip -6 rule flush; ip -6 rule add lookup main pref 32766", check=True)


def move_tun(chaos):
    chaos.g1.run("ip", "link", "set", TUN, "netns", chaos.away.name, check=True)


def rename_wan(chaos):
    for old, new in ("wan", "wan9"), ("wan9", "wan"):
        if chaos.g1.run("ip", "link", "set", old, "name", new).returncode:
            chaos.g1.run("sh", "-c", f"ip link set {old} down; ip link set {old} name {new}; "
                         f"ip link set {new} up", check=True)
        time.sleep(chaos.rng.uniform(0, 0.3))
    chaos.address_wan()


def move_wan(chaos):
    chaos.g1.run("ip", "link", "set", "wan", "netns", chaos.away.name, check=True)
    time.sleep(chaos.rng.uniform(0, 0.2))
    chaos.away.run("ip", "link", "set", "wan", "netns", chaos.g1.name, check=True)
    chaos.address_wan()


def of_net(function):
    return lambda chaos: function(chaos.g1)


def clear_tc(chaos):
    """All that is ours there; of links nobody tells, so they are found within 10 s."""
    if chaos.options.tcx == "no":
        chaos.g1.run("tc", "qdisc", "del", "dev", "wan", "clsact", check=True)
        return
    for side in tcx.SIDES:
        for name, link in tcx.programs(chaos.g1, "wan", side):
            if name in ("xf_egress", "xf_ingress"):
                tcx.detach(link)


# Each: what is done, the parts that are lost by it, the layers that it takes away: 1 what captures
# (out) and 2 the programs at wan; 1i is the rule set for what comes in.
EVENTS = {
    "flush ruleset": (flush_ruleset, ("table",), "1 1i"),
    "delete table": (of_net(nft("delete", "table", "inet", "xfrmd")), ("table",), "1 1i"),
    "flush chain": (flush_chain, ("table",), "1 1i"),
    "delete chain": (delete_chain, ("table",), "1 1i"),
    "delete rule": (of_net(delete_a_rule), ("table",), "1 1i"),
    "rule in our table": (a_rule_in_ours, ("table",), "1 1i"),
    "restore": (restore, ("table",), "1 1i"),
    "restore on top": (restore_on_top, ("table",), "1 1i"),
    "rule flush": (of_net(flush_rules), ("rule",), "1"),
    "rule flush IPv6": (flush_rules_6, ("rule",), "1"),
    "route flush": (of_net(ip("route", "flush", "table", "30822")), ("route",), "1"),
    "route flush IPv6": (of_net(ip("-6", "route", "flush", "table", "30822")), ("route",), "1"),
    "TUN down": (of_net(ip("link", "set", TUN, "down")), ("tun",), ""),
    "TUN deleted": (of_net(ip("link", "del", TUN)), ("tun",), ""),
    "TUN renamed": (of_net(rename_tun), ("tun",), ""),
    "TUN moved": (move_tun, ("tun",), ""),
    "wan renamed": (rename_wan, (), ""),
    "wan moved": (move_wan, (), "2"),
    "tc cleared": (clear_tc, ("backstop",), "2"),
}
NFT_EVENTS = [name for name, event in EVENTS.items() if "table" in event[1]]
# After these some others find nothing to act on.
TUN_EVENTS = [name for name, event in EVENTS.items() if "tun" in event[1]]


def choose(chaos, most):
    """Some events of which none takes away what another one needs."""
    names = [name for name in EVENTS if not chaos.options.only or name in chaos.options.only]
    chosen = []
    for name in chaos.rng.sample(names, chaos.rng.randint(1, min(most, len(names)))):
        for group in NFT_EVENTS, TUN_EVENTS, ["wan moved", "tc cleared", "wan renamed"]:
            if name in group and any(other in group for other in chosen):
                break
        else:
            chosen.append(name)
    return chosen


def happen(chaos, name):
    """An event while the daemon is there; what is lost by it."""
    function, lost, _ = EVENTS[name]
    if chaos.options.owner == "no" or "table" not in lost:
        function(chaos)
        return lost
    try:
        function(chaos)
    except subprocess.CalledProcessError:
        chaos.say(f"{name} is refused")
    return ()


def do(chaos, name, before):
    """One event while the daemon runs; it is mended before anything else happens."""
    chaos.say(name)
    counts, log = parts(chaos.g1), len(chaos.g1.text())
    lost = happen(chaos, name)
    if "flush ruleset" in name or "restore" in name:
        chaos.put_back_nat()
    chaos.heal(before, counts, log, lost)
    if not lost:
        xfrmd.equal(parts(chaos.g1)["table"]["losses"], counts["table"]["losses"])


def running(chaos, tally):
    for name in choose(chaos, 3):
        beside = chaos.rng.random() < 0.3 and chaos.beside()
        before = None if beside else chaos.baseline()
        if beside:
            process, lines = beside
            process.stdin.write(("\n".join(lines) + "\n").encode())
            process.stdin.close()
        do(chaos, name, before)
        if beside:
            process.wait()
            time.sleep(0.6)  # rules of each policy come when they have not changed for a while
        chaos.judge(False, False, tally)


def layers(names):
    """Are both layers gone, out and in?"""
    taken = " ".join(EVENTS[name][2] for name in names).split()
    return "1" in taken and "2" in taken, "1i" in taken and "2" in taken


def stopped(chaos, tally):
    names = choose(chaos, 3)
    before, counts, log = chaos.baseline(), parts(chaos.g1), len(chaos.g1.text())
    chaos.g1.daemon.send_signal(signal.SIGSTOP)
    chaos.say(f"SIGSTOP, {', '.join(names)}")
    lost = {part for name in names for part in happen(chaos, name)}
    chaos.put_back_nat()
    time.sleep(chaos.rng.uniform(0.2, chaos.options.stop))
    chaos.g1.daemon.send_signal(signal.SIGCONT)
    chaos.heal(before, counts, log, lost)
    # The links at netfilter's hooks are the daemon's and stay, where it has them.
    taken = [name for name in names if chaos.options.owner == "no" or name not in NFT_EVENTS]
    chaos.judge(layers(taken)[0], layers(taken)[1] and not chaos.has_links(), tally)


def dead(chaos, tally):
    names = choose(chaos, 2) if chaos.rng.random() < 0.7 else []
    how = chaos.rng.choice([signal.SIGKILL, signal.SIGTERM])
    before = chaos.baseline()
    chaos.g1.stop(how)
    chaos.say(f"{how.name}, {', '.join(names)}")
    for name in names:
        EVENTS[name][0](chaos)
    chaos.put_back_nat()
    time.sleep(0.3)
    chaos.start()
    chaos.heal(before, None, 0, ())
    for net in chaos.g1, chaos.away:  # what was left by who took the TUN while nobody had it
        for name in ("other0",) if net is chaos.g1 else ("other0", TUN):
            if net.run("ip", "link", "del", name).returncode == 0:
                chaos.say(f"{name} was left")
    out, forged = layers(names)
    chaos.judge(out, forged, tally)


def just_started(chaos, tally):
    """kill -9, and events while the next one starts."""
    name = chaos.rng.choice([name for name in ("flush ruleset", "delete table", "rule flush",
                                               "route flush", "TUN deleted", "restore")
                             if name in EVENTS])
    before = chaos.baseline()
    chaos.g1.stop(signal.SIGKILL)
    delay = chaos.rng.uniform(0, 0.4)
    chaos.say(f"SIGKILL, start, {name} {delay:.3f} s later")
    chaos.launch()
    time.sleep(delay)
    tun = chaos.g1.run("ip", "link", "show", TUN).returncode == 0
    if name != "TUN deleted" or tun:
        happen(chaos, name)
    chaos.put_back_nat()
    xfrmd.wait_for(lambda: "ready: network namespace" in chaos.g1.text(), HEALED_S)
    chaos.add_sas()
    chaos.heal(before, None, 0, ())
    chaos.judge(False, False, tally)


def agent_that_undoes(chaos, tally):
    before, counts, log = chaos.baseline(), parts(chaos.g1), len(chaos.g1.text())
    what = chaos.rng.choice(["nft delete table inet xfrmd", "ip rule del pref 50",
                             f"ip link del {TUN}",
                             *["tc qdisc del dev wan clsact"] * (chaos.options.tcx == "no")])
    chaos.say(f"an agent: {what}")
    agent = subprocess.Popen(chaos.g1.argv("sh", "-c", f"while :; do {what} 2>/dev/null || "
                                           "sleep 0.01; done"))
    time.sleep(chaos.rng.uniform(0.5, chaos.options.stop))
    agent.kill()
    agent.wait()
    part = {"nft": "table", "tc": "backstop"}.get(what[:3].strip(),
                                                  "rule" if "rule" in what else "tun")
    if part == "table":  # a change of policies does not wait
        process, lines = chaos.beside()
        process.communicate(("\n".join(lines) + "\n").encode())
        time.sleep(0.6)
        before = None
    refused = part == "table" and chaos.options.owner == "yes"
    chaos.heal(before, counts, log, () if refused else (part,))
    chaos.judge(False, False, tally)


def a_full_run(chaos, tally):
    """Policies that find no room are refused; protection stays, over a restart too."""
    chaos.say("/run is full, policies, SIGKILL, start")
    filler = os.open("/run/xfrmd/filler", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(filler, bytes(4096)):
            pass
    except OSError:
        os.close(filler)
    try:
        process, lines = chaos.beside()
        process.communicate(("\n".join(lines) + "\n").encode())
        time.sleep(0.6)
        chaos.traffic.flow_again()
        before = chaos.baseline()
        chaos.g1.stop(signal.SIGKILL)
        chaos.start()
        chaos.heal(before, None, 0, ())
    finally:
        os.unlink("/run/xfrmd/filler")
    chaos.judge(False, False, tally)


def release_and_start(chaos, tally):
    """Where there are no policies all may pass, so nothing is sent meanwhile."""
    chaos.say("SIGKILL, release while starting, start")
    chaos.traffic.pause()
    chaos.judge(False, False, tally)
    chaos.g1.stop(signal.SIGKILL)
    chaos.launch()
    daemon = chaos.g1.daemon
    time.sleep(chaos.rng.uniform(0, 0.2))
    done = chaos.g1.ctl("release")
    xfrmd.equal((done.returncode, done.stderr), (0, ""))

    def it_ends_or_came_later():
        return daemon.poll() is not None or chaos.g1.ctl("status").returncode == 0
    xfrmd.wait_for(it_ends_or_came_later, 30)
    if daemon.poll() is None:
        xfrmd.equal(chaos.g1.ctl("release").returncode, 0)
        daemon.wait(30)
    chaos.g1.daemon = None
    chaos.g1.log.truncate(0)
    chaos.extra.clear()
    chaos.start()
    chaos.protect()
    chaos.put_back_nat()
    chaos.traffic.take()
    chaos.traffic.resume()
    chaos.heal(None, None, 0, ())
    chaos.judge(False, False, tally)


def all_policies_anew(chaos, tally):
    chaos.say("policy flush, all policies anew")
    chaos.traffic.pause()
    chaos.judge(False, False, tally)
    chaos.g1.xfrm("policy", "flush", check=True)
    chaos.extra.clear()
    chaos.protect()
    chaos.traffic.take()
    chaos.traffic.resume()
    chaos.heal(None, None, 0, ())
    chaos.judge(False, False, tally)


ROUNDS = (running,) * 9 + (stopped,) * 4 + (dead,) * 3 + \
    (just_started, agent_that_undoes, a_full_run, release_and_start, all_policies_anew)


def one_round(chaos, number, tally):
    chaos.rng = random.Random(f"{chaos.options.seed}-{number}")
    shape = chaos.rng.choice(ROUNDS)
    chaos.say(f"round {number}: {shape.__name__}")
    for chance, change in ((0.4, chaos.change_nat), (0.3, chaos.change_foreign)):
        if chaos.rng.random() < chance:
            change()
    if chaos.rng.random() < 0.3:
        chaos.save()
    nat = chaos.nat is not None
    xfrmd.wait_for(lambda: chaos.g1.ask("status")["capture"]["nat"] == nat, HEALED_S)
    chaos.traffic.flow_again()
    shape(chaos, tally)


def block(options, first, last, tally):
    """Rounds in one network."""
    def rounds(netns):
        chaos = Chaos(netns, random.Random(0), options, TWINS[(first - 1) // BLOCK % len(TWINS)])
        try:
            for number in range(first, last):
                one_round(chaos, number, tally)
                tally["rounds"] += 1
        except Exception as error:
            raise AssertionError(f"seed {options.seed}: {error}\nin clear {chaos.traffic.clear}, "
                                 f"forged {chaos.traffic.forged}\n" + "\n".join(chaos.log)) \
                from error
        finally:
            chaos.close()
            tally["slowest"] = max([tally["slowest"], *chaos.healing_s])
    rounds.__name__ = f"seed_{options.seed}_rounds_{first}_to_{last - 1}"
    return rounds


def report(tally):
    def figures(netns):
        print(f"# {tally['rounds']} rounds; apart, both layers gone without a daemon, or no twin: "
              f"{tally['apart clear']} out in clear, {tally['apart forged']} forged in; otherwise "
              f"{tally['clear']} and {tally['forged']}; slowest repair {tally['slowest']:.2f} s")
        xfrmd.equal((tally["clear"], tally["forged"]), (0, 0))
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", nargs="?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", default="5")
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--config", default="")
    parser.add_argument("--owner", choices=["yes", "no"], default="no",
                        help="of xfrmd's table: then nobody takes it away while xfrmd runs")
    parser.add_argument("--tcx", choices=["yes", "no"], default="no",
                        help="programs are at devices by links")
    parser.add_argument("--stop", type=float, default=1, help="seconds of SIGSTOP, at most")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    print(f"# seed {options.seed}")
    if os.geteuid() == 0:
        own_run(1024)
    tally = {"rounds": 0, "clear": 0, "forged": 0, "apart clear": 0, "apart forged": 0,
             "slowest": 0}
    last = options.first + options.rounds
    xfrmd.main([block(options, first, min(first + BLOCK, last), tally)
                for first in range(options.first, last, BLOCK)] + [report(tally)])


main()
