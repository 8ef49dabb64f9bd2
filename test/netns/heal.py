#!/usr/bin/env python3
"""Somebody takes away, or changes, what protection rests on: it comes back, the log says who."""
import os
import signal
import subprocess
import time

from healing import (FAR, NEAR, TUN, Wire, delete_a_rule, flush_rules, heals, ip, many_policies,
                     nft, parts, ping, start_again, tunnel, what_stands)
from xfrmd import SHARED, equal, holds, main, wait_for


def the_table(netns):
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    nft_says = " by nft (pid "
    for event, says in [
            (nft("flush", "ruleset"), "table xfrmd was deleted" + nft_says),
            (nft("delete", "table", "inet", "xfrmd"), "table xfrmd was deleted" + nft_says),
            (nft("flush", "chain", "inet", "xfrmd", "outbound"),
             "a rule of outbound, was deleted" + nft_says),
            (delete_a_rule, "a rule of prerouting, was deleted" + nft_says),
            (nft("insert", "rule", "inet", "xfrmd", "prerouting", "return"),
             "a rule of prerouting, was added" + nft_says),
            (nft("delete", "table", "bridge", "xfrmd"), "table xfrmd was deleted" + nft_says)]:
        heals(near, "table", event, says)
    equal(seen.clear, 0)
    seen.close()


def chains_and_flags(netns):
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    heals(near, "table", nft("flush chain inet xfrmd output; delete chain inet xfrmd output"),
          "xfrmd, a rule of output, was deleted by nft")
    # A chain of another kind in its place: nothing can be added to it.
    heals(near, "table", nft("flush chain inet xfrmd output; delete chain inet xfrmd output; "
                             "add chain inet xfrmd output { type nat hook output priority 0; }"),
          "by nft")
    heals(near, "table", nft("add table inet xfrmd { flags dormant; }"), "was changed by nft")
    heals(near, "table", nft("add chain inet xfrmd more { type filter hook output priority 0; }"),
          "chain more, was changed by nft")
    equal(seen.clear, 0)
    seen.close()


def a_restored_ruleset(netns):
    """As a firewall's own does it: everything away, and what was saved with our table in it."""
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    path = f"/tmp/{near.name}.nft"
    near.run("nft", "add table ip mine", check=True)
    saved = near.run("nft", "list", "ruleset", check=True).stdout
    near.xfrm("policy", "add", "src", "10.9.0.0/16", "dst", "10.10.0.0/16", "dir", "out", "tmpl",
              "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "reqid", "1", "mode",
              "tunnel", check=True)
    with open(path, "w", encoding="ascii") as file:
        file.write("flush ruleset\n" + saved)
    try:
        heals(near, "table", nft("-f", path), "table xfrmd was replaced by nft")
    finally:
        os.unlink(path)
    holds(near.run("nft", "list", "tables").stdout, "table ip mine")
    equal(seen.clear, 0)
    seen.close()


def set_named(net, start):
    text = net.run("nft", "-t", "list", "sets", "table", "inet", "xfrmd", check=True).stdout
    return next(word for word in text.split() if word.startswith(start))


def at_set(start, command):
    """@command for the set whose name begins with @start, in place of NAME."""
    return lambda net: nft(command.replace("NAME", set_named(net, start)))(net)


def elements(netns):
    near, far = tunnel(netns, SHARED)
    many_policies(near)

    def by_sets():
        text = near.run("nft", "list", "table", "inet", "xfrmd").stdout
        return "goto selected" in text and "@out4_24_24_" in text and "@in4_" in text \
            and "10.2.199.0 . 10.200.99.0" in text
    wait_for(by_sets, 20)
    wait_for(lambda: ping(near), 20)
    seen = Wire(far)
    for start, command, verb in (("dst4_32_", "delete element inet xfrmd NAME { 203.0.113.1 }",
                                  "deleted"),
                                 ("dst4_24_", "flush set inet xfrmd NAME", "deleted"),
                                 ("out4_24_24_", "flush set inet xfrmd NAME", "deleted"),
                                 ("out4_24_24_", "add element inet xfrmd NAME { 10.9.9.0 . "
                                                 "10.9.9.0 }", "added")):
        heals(near, "elements", at_set(start, command), f"an element of {start}")
        wait_for(by_sets, 20)
        holds(near.text(), f", was {verb} by nft")
    heals(near, "table", nft("flush", "ruleset"), "table xfrmd was deleted by nft")
    heals(near, "table", nft("add table inet xfrmd { flags dormant; }"), "was changed by nft")
    # Nothing can be added to that, and sets come before rules.
    heals(near, "table", nft("flush chain inet xfrmd output; delete chain inet xfrmd output; "
                             "add chain inet xfrmd output { type nat hook output priority 0; }"),
          "by nft")
    wait_for(by_sets, 20)
    equal(seen.clear, 0)
    seen.close()


def lose_events(net, event):
    """More happens while the daemon sleeps than its socket holds, and @event in the middle."""
    elements = ", ".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(60000))
    fill = f"add table ip mine; add set ip mine s {{ type ipv4_addr; }}; " \
           f"add element ip mine s {{ {elements} }}; delete table ip mine"
    net.daemon.send_signal(signal.SIGSTOP)
    for _ in range(2):
        net.run("nft", "-f", "-", input=fill.replace("; ", "\n"), check=True)
    event(net)
    net.run("nft", "-f", "-", input=fill.replace("; ", "\n"), check=True)
    net.daemon.send_signal(signal.SIGCONT)


def policies_of_all_forms(net):
    """Each with a field of its own in the elements of its set."""
    for selector in ("src 10.77.0.0/16 dst 10.201.0.0/24 proto udp dport 53",
                     "src 10.77.0.0/16 dst 10.201.1.0/24 proto tcp sport 8 dport 9",
                     "src 10.77.0.0/16 dst 10.201.2.0/24 proto gre",
                     "src 10.77.0.0/16 dst 10.201.3.0/24 mark 5 mask 0xff",
                     "src fd77::/48 dst fd78::/64 proto udp dport 53"):
        net.xfrm("policy", "add", *selector.split(), "dir", "out", "tmpl", "src", "192.0.2.1",
                 "dst", "192.0.2.2", "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)
    for start in "out4_16_24_p", "out4_16_24_m", "out6_48_64_p":
        wait_for(lambda start=start: start in net.run("nft", "-t", "list", "sets").stdout)


def events_that_were_lost(netns):
    """What the table should be is known then, too: no loss where there was none."""
    near, far = tunnel(netns, SHARED)
    time.sleep(1.5)  # only then it is known how it was left
    lose_events(near, lambda net: None)
    ping(near, 3)
    equal(parts(near)["table"]["losses"], 0)
    heals(near, "table", lambda net: lose_events(net, delete_a_rule),
          "table xfrmd may have changed")
    heals(near, "table", lambda net: lose_events(net, nft("delete table bridge xfrmd")),
          "table xfrmd may have changed")
    holds(near.run("nft", "list", "tables").stdout, "table bridge xfrmd")
    heals(near, "table", lambda net: lose_events(net, nft("flush", "ruleset")),
          "table xfrmd is gone")
    many_policies(near)
    policies_of_all_forms(near)
    time.sleep(1.5)
    lose_events(near, lambda net: None)
    ping(near, 3)
    equal(parts(near)["elements"]["losses"], 0)
    heals(near, "elements",
          lambda net: lose_events(net, at_set("dst4_32_", "delete element inet xfrmd NAME { "
                                                          "203.0.113.1 }")),
          "sets, have other elements")
    time.sleep(1.5)
    # One in place of another, and its number is the same.
    heals(near, "elements",
          lambda net: lose_events(net, at_set("dst4_32_", "delete element inet xfrmd NAME { "
                                                          "203.0.113.1 }; add element inet xfrmd "
                                                          "NAME { 203.0.113.77 }")),
          "sets, have other elements")
    holds(near.run("nft", "list", "set", "inet", "xfrmd", set_named(near, "dst4_32_")).stdout,
          "203.0.113.1")
    equal(near.daemon.poll(), None)


def rules_and_routes(netns):
    near, far = tunnel(netns)
    seen = Wire(far)
    heals(near, "rule", flush_rules, "the ip rule for captured packets was deleted: put back")
    heals(near, "rule", ip("rule", "del", "pref", "50"), "the ip rule for captured packets")
    heals(near, "rule", ip("-6", "rule", "del", "pref", "50"), "the ip rule for captured packets")
    for words in (("route", "flush", "table", "30822"), ("-6", "route", "flush", "table", "30822"),
                  ("route", "del", "blackhole", "default", "table", "30822")):
        heals(near, "route", ip(*words), "the route of captured packets into xfrmd0 was deleted")
    equal(seen.clear, 0)
    seen.close()


def routes_of_others(netns):
    """In our table they would take what is captured elsewhere, where it is dropped."""
    near, far = tunnel(netns)
    seen = Wire(far)
    near.run("ip", "-6", "addr", "add", "fd00::1/64", "dev", "eth0", "nodad", check=True)
    gateway, gateway6 = ("via", "192.0.2.2", "dev", "eth0"), ("via", "fd00::2", "dev", "eth0")
    for route in (("add", "203.0.113.0/24", *gateway), ("add", "blackhole", "default"),
                  ("append", "default", *gateway, "metric", "1"),
                  ("add", "prohibit", "203.0.113.1", "metric", "7")):
        heals(near, "route", ip("route", *route, "table", "30822"),
              "routes of somebody else in the table of captured packets: put back")
    heals(near, "route", ip("-6", "route", "add", "fd07::/64", *gateway6, "table", "30822"),
          "routes of somebody else in the table of captured packets: put back")
    equal(seen.clear, 0)
    seen.close()


def rules_of_others(netns):
    """One that stands before ours takes what is captured elsewhere."""
    near, far = tunnel(netns)
    seen = Wire(far)
    captured = near.ask("stats")["capture"]["captured"]
    near.run("ip", "route", "add", "default", "via", "192.0.2.2", "table", "77", check=True)

    def places(*family):
        lines = near.run("ip", *family, "rule", check=True).stdout.splitlines()
        return [int(line.split(":")[0]) for line in lines if "lookup 30822" in line]
    for rule in ("pref", "40", "lookup", "77"), ("pref", "30", "to", "203.0.113.0/24", "lookup",
                                                 "77"), ("pref", "20", "not", "fwmark", "0x1",
                                                         "lookup", "77"):
        log = len(near.text())
        near.run("ip", "rule", "add", *rule, check=True)
        wait_for(lambda: ping(near))
        wait_for(lambda: "the ip rule for captured packets stood behind another one: put back"
                 in near.text()[log:])
        equal(min(places()), int(rule[1]) - 1)
    equal(places("-6"), [50])
    # These take nothing of ours.
    losses = parts(near)["rule"]["losses"]
    near.run("ip", "rule", "add", "pref", "9", "fwmark", "0x1/0x40000001", "lookup", "77",
             check=True)
    near.run("ip", "rule", "add", "pref", "60", "lookup", "77", check=True)
    # What somebody wants to be refused must not pass us by, nor may we come before "local".
    near.run("ip", "rule", "add", "pref", "8", "from", "192.0.2.99", "prohibit", check=True)
    near.run("ip", "rule", "add", "pref", "10", "lookup", "78", check=True)
    wait_for(lambda: "an ip rule of others (priority 10)" in near.text())
    equal(parts(near)["rule"]["losses"], losses)
    equal(min(places()), 19)
    equal(near.ask("stats")["capture"]["captured"] > captured, True)
    equal(seen.clear, 0)
    seen.close()
    near.stop()
    equal(near.ctl("release").returncode, 0)
    equal(places(), [])


def an_agent_that_undoes_repairs(netns):
    """Few repairs, few lines, and the backstop stays: nothing in clear."""
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    agent = subprocess.Popen(near.argv("sh", "-c", "while :; do nft delete table inet xfrmd "
                                       "2>/dev/null || sleep 0.01; done"))
    try:
        wait_for(lambda: "more than 5 times within 10 s" in near.text(), 30)
        text = near.text()
        for _ in range(20):
            ping(near, wait="0.1")
        equal(parts(near)["table"]["in_force"], False)
    finally:
        agent.kill()
        agent.wait()
    equal(seen.clear, 0)
    holds(text, "by nft (pid ")
    equal(text.count("was deleted") <= 7, True)
    # The next loss is repaired within 10 s; a change of policies does not wait for that.
    near.xfrm("policy", "add", "src", "10.9.0.0/16", "dst", "10.10.0.0/16", "dir", "out", "action",
              "block", check=True)
    equal(parts(near)["table"]["in_force"], True)
    wait_for(lambda: ping(near), 20)
    seen.close()


def ours_is_not_foreign(netns):
    """Many changes of our own, and others' of their own tables, are no loss; release is none."""
    near, _ = tunnel(netns)
    many_policies(near)
    near.run("nft", "add table ip mine; add chain ip mine c; add rule ip mine c counter; "
             "delete table ip mine", check=True)
    near.run("ip", "tuntap", "add", "dev", "tun9", "mode", "tun", check=True)
    near.run("ip", "route", "add", "10.77.0.0/16", "via", "192.0.2.2", check=True)
    near.xfrm("policy", "flush", check=True)
    time.sleep(0.5)
    for part in parts(near).values():
        equal((part["name"], part["losses"], part["in_force"]), (part["name"], 0, True))
    near.ctl("release", check=True)
    near.daemon.wait(timeout=20)
    equal("made anew" in near.text() or "put back" in near.text(), False)
    equal(near.run("nft", "list", "tables").stdout, "")
    equal(near.run("ip", "link", "show", TUN).returncode != 0, True)


def what_stands_survives_the_daemon(netns):
    near, _ = tunnel(netns)
    for how in signal.SIGTERM, signal.SIGKILL:
        before = what_stands(near)
        near.stop(how)
        # A persistent TUN without a reader has no carrier, which its routes tell.
        after = what_stands(near)
        equal({k: after[k] for k in ("table", "rules", "up", "mtu")},
              {k: before[k] for k in ("table", "rules", "up", "mtu")})
        equal(len(after["routes"]), len(before["routes"]))
        near.start_with("")
        equal(what_stands(near), before)


def other_names(netns):
    """Another configuration: what stood by the names of the last one goes, nothing in clear."""
    near, far = tunnel(netns)
    seen = Wire(far)

    def lines(*words):
        return [line.split() for family in ((), ("-6",))
                for line in near.run("ip", *family, *words).stdout.splitlines()]

    def stands():
        rules = {tuple(words) for words in lines("rule") if "fwmark" in words}
        routes = {table: {" ".join(words) for words in lines("route", "show", "table", table)}
                  for table in ("30822", "998", "999")}
        links = {words[1] for words in lines("-o", "link") if "POINTOPOINT" in words[2]}
        return rules, {table for table in routes if routes[table]}, links
    for config, place, mark, table, tun in (
            ("mark_capture = 0x1000000", "50:", "0x1000000/0x1000000", "30822", "xfrmd0:"),
            ("table = 999", "50:", "0x40000000/0x40000000", "999", "xfrmd0:"),
            ("rule_priority = 70", "70:", "0x40000000/0x40000000", "30822", "xfrmd0:"),
            ("rule_priority = 60\ntable = 998\nmark_capture = 0x400\ntun = tunnel7",
             "60:", "0x400/0x400", "998", "tunnel7:")):
        near.stop(signal.SIGKILL)
        start_again(near, far, f"[capture]\n{config}\n")
        rule = place, "from", "all", "fwmark", mark, "lookup", table, "proto", "static"
        equal(stands(), ({rule}, {table}, {tun}))
    near.stop(signal.SIGKILL)
    # A release by a configuration that was never in force.
    equal(near.ctl("release").returncode, 0)
    equal(stands(), (set(), set(), set()))
    equal(seen.clear, 0)
    seen.close()


main([the_table, chains_and_flags, a_restored_ruleset, elements, events_that_were_lost,
      routes_of_others, rules_of_others, other_names,
      rules_and_routes, an_agent_that_undoes_repairs, ours_is_not_foreign,
      what_stands_survives_the_daemon])
