"""What the tests of healing share: a tunnel, what stands in the kernel, what passes the wire."""
import json
import re
import socket
import threading

from xfrmd import EXEC, LIMIT_S, equal, gateway_sas, gateways, in_netns, wait_for, wire

NEAR, FAR = "198.51.100.1", "203.0.113.1"
TUN = "xfrmd0"


def parts(net):
    return {part["name"]: part for part in net.ask("status")["capture"]["parts"]}


def what_stands(net):
    """Chains and rules without handles and counts, rule, routes and TUN."""
    table = net.run("nft", "-s", "list", "table", "inet", "xfrmd").stdout
    # Names of sets tell how often they were made anew.
    table = re.sub(r"(\d_)[0-9a-f]+\b", r"\1N", table)
    # What is known of flows comes and goes with them.
    known = r"(\tset nat_\w+ \{\n(?:\t\t(?!elements).*\n)*)\t\telements = \{[^}]*\}\n"
    table = re.sub(known, r"\1", table)
    # An owner comes and goes with the daemon.
    table = re.sub(r" # progname .*|\tflags (owner)?\n\n", "", table)
    rules = [line for line in (net.run("ip", "rule").stdout +
                               net.run("ip", "-6", "rule").stdout).splitlines()
             if "0x40000000" in line]
    routes = sorted((net.run("ip", "route", "show", "table", "30822").stdout +
                     net.run("ip", "-6", "route", "show", "table", "30822").stdout).splitlines())
    link = net.run("ip", "-o", "link", "show", TUN).stdout
    return {"table": sorted(table.splitlines()), "rules": rules,
            "routes": [re.sub(" +", " ", route).strip() for route in routes],
            "up": ",UP" in link, "mtu": " mtu 65535 " in link}


def start_again(near, far, config):
    """The daemon of near, after an earlier one: policies are back, SAs are not."""
    near.start_with(config)
    far.xfrm("state", "flush", check=True)
    for net in near, far:
        gateway_sas(net)
    wait_for(lambda: ping(near))


def many_policies(net, verb="add"):
    """So many that sets decide."""
    tail = " tmpl src {} dst {} proto esp reqid 1 mode tunnel" if verb == "add" else ""
    batch = "".join(
        f"xfrm policy {verb} src 10.{i}.0.0/16 dst 203.0.113.1/32 dir {way}"
        f"{tail.format('192.0.2.2', '192.0.2.1')}\n" for i in range(100) for way in ("in", "fwd"))
    batch += "".join(
        f"xfrm policy {verb} src 10.{i // 200}.{i % 200}.0/24 dst 10.200.{i % 250}.0/24 dir out"
        f"{tail.format('192.0.2.1', '192.0.2.2')}\n" for i in range(600))
    equal(net.run(EXEC, "ip", "-batch", "-", input=batch).stderr, "")


def ping(net, count=1, wait="1"):
    done = net.run("ping", "-n", "-q", "-c", str(count), "-i", "0.05", "-W", wait, "-I", NEAR, FAR)
    return int(done.stdout.split(" received")[0].split()[-1])


class Wire:
    """Counts what passes the wire in clear between the inner addresses."""

    def __init__(self, net):
        # ETH_P_ALL: what leaves, too.
        self.socket = in_netns(net, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind(("eth0", 3))
        self.socket.settimeout(0.2)
        self.ends = [socket.inet_aton(addr) for addr in (NEAR, FAR)]
        self.clear = self.esp = 0
        self.over = False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while not self.over:
            try:
                frame = self.socket.recv(65535)
            except OSError:  # nothing for a while, or the device went down
                continue
            if frame[12:14] == b"\x08\x00":
                self.clear += frame[26:30] in self.ends and frame[30:34] in self.ends
                self.esp += frame[23] == 50

    def close(self):
        self.over = True
        self.thread.join()
        self.socket.close()


def tunnel(netns, config=""):
    near, far = wire(netns)
    near.start_with(config)
    far.start_with("")
    gateways(near, far, (NEAR, FAR))
    wait_for(lambda: ping(near))
    return near, far


def stands_again(net, before, says="", seconds=LIMIT_S):
    """Wait until what_stands() is as it was @before."""
    def is_back():
        return what_stands(net) == before
    try:
        wait_for(is_back, seconds)
    except AssertionError as error:
        now, then = what_stands(net), dict(before)
        lines = set(now.pop("table")) ^ set(then.pop("table"))
        raise AssertionError(f"{says}: {now} is not {then}, or {len(lines)} lines of the table "
                             f"are others: {sorted(lines)[:4]}") from error


def heals(near, part, event, says):
    """After @event(near) all stands as before, traffic flows, and log and status say so."""
    before = what_stands(near)
    log = len(near.text())
    counts = parts(near)[part]
    event(near)

    def is_repaired():
        now = parts(near)[part]
        return now["in_force"] and now["repairs"] > counts["repairs"]
    wait_for(is_repaired, 20)
    equal(parts(near)[part]["losses"] > counts["losses"], True)

    stands_again(near, before, says, 20)
    said = [line for line in near.text()[log:].splitlines() if says in line]
    if not said:
        raise AssertionError(f"{says!r} is not in {near.text()[log:]!r}")
    wait_for(lambda: ping(near), 20)


def ip(*words):
    """An event for heals(): this command."""
    def run(net):
        net.run("ip", *words, check=True)
    return run


def nft(*words):
    def run(net):
        net.run("nft", *words, check=True)
    return run


def delete_a_rule(net):
    rules = json.loads(net.run("nft", "-j", "-a", "list", "chain", "inet", "xfrmd",
                               "prerouting").stdout)["nftables"]
    handle = [item["rule"]["handle"] for item in rules if "rule" in item][-1]
    net.run("nft", "delete", "rule", "inet", "xfrmd", "prerouting", "handle", str(handle),
            check=True)


def flush_rules(net):
    net.run("ip", "rule", "flush", check=True)
    net.run("ip", "rule", "add", "lookup", "main", "pref", "32766", check=True)


def rename_tun(net):
    """Where the kernel lets no device that is up change its name, it must be down for a moment."""
    if net.run("ip", "link", "set", TUN, "name", "other0").returncode:
        net.run("sh", "-c", f"ip link set {TUN} down; ip link set {TUN} name other0; "
                "ip link set other0 up")
