#!/usr/bin/env python3
"""The table is the daemon's alone while it runs, stays as an orphan, and is adopted with no gap."""
import os
import signal
import socket
import struct
import threading
import time

from healing import (Wire, delete_a_rule, many_policies, nft, parts, ping, stands_again,
                     start_again, tunnel, what_stands)
from xfrmd import SHARED, equal, holds, in_netns, main, wait_for

OURS = "inet xfrmd"
# Each of them is an attempt to change the table.
ATTEMPTS = ("delete table inet xfrmd", "flush table inet xfrmd",
            "flush chain inet xfrmd outbound", "delete chain inet xfrmd output",
            "insert rule inet xfrmd prerouting accept", "add chain inet xfrmd more",
            "add table inet xfrmd { flags dormant; }", "add table inet xfrmd",
            "add set inet xfrmd more { type ipv4_addr; }", "delete counter inet xfrmd captured")


def owner(net):
    capture = net.ask("status")["capture"]
    return capture["owner"], capture["why_no_owner"]


def tables(net):
    return net.run("nft", "list", "tables", check=True).stdout


def captured(net):
    return net.ask("stats")["capture"]["captured"]


def refuses(net, command):
    done = net.run("nft", command)
    if done.returncode == 0 or "Operation not permitted" not in done.stderr:
        raise AssertionError(f"{command}: {done.returncode}, {done.stderr}")


def nobody_else_changes_it(netns):
    near, far = tunnel(netns)
    seen = Wire(far)
    before = what_stands(near)
    bridge = "bridge xfrmd" in tables(near)
    equal(owner(near), (True, ""))
    holds(near.ctl("status").stdout, "tables    xfrmd's alone\n")
    near.run("nft", "add", "table", "ip", "mine", check=True)
    near.run("nft", "flush", "ruleset", check=True)
    equal("ip mine" in tables(near), False)
    equal((OURS in tables(near), "bridge xfrmd" in tables(near)), (True, bridge))
    for command in ATTEMPTS:
        refuses(near, command)
    equal(ping(near, 5), 5)
    stands_again(near, before)
    equal({name: part["losses"] for name, part in parts(near).items() if part["losses"]}, {})
    equal(seen.clear, 0)
    seen.close()


def policies_change_in_it(netns):
    """Rules, then sets so many that elements go by messages of our own; then rules again."""
    near, _ = tunnel(netns)

    def listed(what):
        return what in near.run("nft", "list", "table", "inet", "xfrmd").stdout
    near.xfrm("policy", "add", "src", "10.9.0.0/16", "dst", "10.10.0.0/16", "dir", "out", "action",
              "block", check=True)
    equal(listed("10.10.0.0/16"), True)
    many_policies(near)
    wait_for(lambda: listed("@dst4_24") and listed("@in4_") and listed("10.200.249.0"))
    equal(near.run("nft", "flush", "ruleset").returncode, 0)
    many_policies(near, "delete")
    wait_for(lambda: not listed("@dst4_24") and not listed("set in4_"))
    equal(listed("10.10.0.0/16"), True)
    wait_for(lambda: ping(near))
    equal({name: part["losses"] for name, part in parts(near).items() if part["losses"]}, {})
    equal(owner(near), (True, ""))


def an_orphan_is_adopted(netns):
    near, far = tunnel(netns)
    seen = Wire(far)
    before = what_stands(near)
    for how in signal.SIGKILL, signal.SIGTERM:
        count = captured(near)
        near.stop(how)
        equal(what_stands(near)["table"], before["table"])
        ping(near, 5, "0.2")
        start_again(near, far, "")
        stands_again(near, before)
        equal(owner(near), (True, ""))
        equal(captured(near) > count, True)
        refuses(near, ATTEMPTS[0])
    equal(seen.clear, 0)
    seen.close()


def nothing_is_left_of_changes_to_an_orphan(netns):
    near, far = tunnel(netns)
    seen = Wire(far)
    before = what_stands(near)
    for event in (delete_a_rule,
                  nft("add chain inet xfrmd more { type filter hook output priority 0; policy "
                      "drop; }; add rule inet xfrmd more accept"),
                  nft("add chain inet xfrmd other-name; insert rule inet xfrmd inbound jump "
                      "other-name"),
                  nft("add set inet xfrmd more { type ipv4_addr; }"),
                  nft("flush chain inet xfrmd output; delete chain inet xfrmd output; "
                      "add chain inet xfrmd output { type nat hook output priority 0; }"),
                  nft("delete table inet xfrmd"), nft("flush ruleset")):
        near.stop(signal.SIGKILL)
        event(near)
        start_again(near, far, "")
        stands_again(near, before)
        equal(owner(near), (True, ""))
    equal(seen.clear, 0)
    seen.close()


def release_takes_it_away(netns):
    near, _ = tunnel(netns)
    near.ctl("release", check=True)
    near.daemon.wait(timeout=20)
    near.log.truncate(0)
    equal(tables(near), "")
    for how in signal.SIGKILL, signal.SIGTERM:
        near.start_with("")
        holds(tables(near), OURS)
        near.stop(how)
        holds(tables(near), OURS)
        near.ctl("release", check=True)
        equal(tables(near), "")


def message(kind, flags, family, res_id, attrs=b""):
    body = struct.pack("!BBH", family, 0, res_id) + attrs
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def own_the_table(net):
    """As a daemon that has been killed and is not quite gone; the socket that owns it."""
    sock = in_netns(net, socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    attrs = struct.pack("=HH8sHH", 10, 1, b"xfrmd", 8, 2) + struct.pack("!I", 6)
    # NFNL_MSG_BATCH_BEGIN, NFT_MSG_NEWTABLE to be created and acknowledged, the end.
    sock.send(message(16, 1, 0, 10) + message(10 << 8, 0x405, 1, 0, attrs) +
              message(17, 1, 0, 10))
    equal(struct.unpack_from("=i", sock.recv(4096), 16)[0], 0)
    refuses(net, ATTEMPTS[0])
    return sock


def who_is_not_quite_gone_is_waited_for(netns):
    net = netns()
    threading.Timer(0.5, own_the_table(net).close).start()
    net.start_with("")
    equal((net.ask("status")["capture"]["nftables"], owner(net)), (True, (True, "")))
    net.stop()
    net.run("nft", "delete", "table", "inet", "xfrmd", check=True)
    threading.Timer(0.5, own_the_table(net).close).start()
    net.ctl("release", check=True)
    equal(tables(net), "")


def with_and_without(netns):
    """The switch, from one daemon to the next; a table made without an owner stays so."""
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    before = what_stands(near)
    equal(owner(near), (False, "it is configured so"))
    holds(near.ctl("status").stdout, "tables    anybody's, without an owner: it is configured so\n")
    equal("has no owner" in near.text(), False)
    near.stop()
    start_again(near, far, "")
    why = "it was made without one, and gets one when it has been deleted"
    equal(owner(near), (False, why))
    equal(near.text().count(f"nftables table xfrmd has no owner: {why}\n"), 1)
    stands_again(near, before)
    near.run("nft", ATTEMPTS[0], check=True)
    wait_for(lambda: owner(near) == (True, ""))
    stands_again(near, before)
    near.stop()
    start_again(near, far, SHARED)
    equal(owner(near), (False, "it is configured so"))
    near.run("nft", "flush", "ruleset", check=True)
    stands_again(near, before)
    equal(seen.clear, 0)
    seen.close()


def where_there_are_no_owners(netns):
    """As before 6.9: no owner, and what others take away comes back. (A probe that fails.)"""
    net = netns()
    net.run("nft", "add table inet xfrmd_probe", check=True)
    net.start_with("")
    equal(owner(net), (False, "this kernel has no owners that leave their tables behind "
                       "(Linux 6.9)"))
    net.run("nft", "flush", "ruleset", check=True)

    def is_back():
        return OURS in tables(net)
    wait_for(is_back)
    net.stop()
    net.start_with("")
    equal("xfrmd_probe" in tables(net), False)


def a_saved_ruleset(netns):
    """With our table in it, it is refused as a whole; without, it loads."""
    near, far = tunnel(netns)
    seen = Wire(far)
    before = what_stands(near)
    path = f"/tmp/{near.name}.nft"
    near.run("nft", "add table ip mine", check=True)
    saved = near.run("nft", "list", "ruleset", check=True).stdout
    near.run("nft", "delete table ip mine; add table ip other", check=True)
    try:
        for text in "flush ruleset\n" + saved, saved:
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            equal(near.run("nft", "-f", path).returncode != 0, True)
            equal(("ip mine" in tables(near), "ip other" in tables(near)), (False, True))
        with open(path, "w", encoding="ascii") as file:
            file.write("flush ruleset\ntable ip mine { }\n")
        near.run("nft", "-f", path, check=True)
        equal(("ip mine" in tables(near), "ip other" in tables(near)), (True, False))
    finally:
        os.unlink(path)
    stands_again(near, before)
    equal(ping(near, 5), 5)
    time.sleep(0.2)
    equal(seen.clear, 0)
    seen.close()


main([nobody_else_changes_it, policies_change_in_it, an_orphan_is_adopted,
      nothing_is_left_of_changes_to_an_orphan, who_is_not_quite_gone_is_waited_for,
      release_takes_it_away, with_and_without, where_there_are_no_owners, a_saved_ruleset])
