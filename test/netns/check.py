#!/usr/bin/env python3
"""xfrmctl check: each thing that is wrong is found, alone, and not any more when it is undone."""
import json
import os
import shlex
import signal
import socket
import subprocess

from xfrmd import (CTL, DAEMON, EXEC, FILTERS, KEY, equal, gateways, holds, in_netns, main,
                   wait_for, wire)

NEAR, FAR = "198.51.100.1", "203.0.113.1"


def findings(net, *options):
    """Names and sentences; the exit status goes with those that are no notes. What libraries read
    after they have freed it is none of what was there."""
    done = net.run("env", "MALLOC_PERTURB_=165", CTL, "check", "--json", *options)
    listed = json.loads(done.stdout)
    equal(done.returncode, 1 if [item for item in listed if not item.get("note")] else 0)
    return [(item["id"], item["what"]) for item in listed]


def nothing(net):
    def is_right():
        return not findings(net)
    try:
        wait_for(is_right, 20)
    except AssertionError as error:
        raise AssertionError(f"still {findings(net)}") from error


def run_all(net, commands):
    for command in commands:
        net.run(*(command if isinstance(command, list) else shlex.split(command)), check=True)


def found_and_undone(net, name, says, make, undo):
    """Commands @make bring about the finding @name and no other, @undo takes it away."""
    nothing(net)
    run_all(net, make)
    found = findings(net)
    equal([item[0] for item in found], [name])
    holds(found[0][1], says)
    text = net.ctl("check")
    equal(text.returncode, 0 if name == "nat" else 1)
    equal(len(text.stdout.splitlines()), 1)
    holds(text.stdout, says)
    holds(text.stdout, ". To do: ")
    run_all(net, undo)
    nothing(net)


def tunnel(netns, config=""):
    near, far = wire(netns)
    near.start_with(config)
    far.start()
    gateways(near, far, (NEAR, FAR))
    return near


def settings_and_rules(netns):
    net = tunnel(netns)
    equal(net.ctl("check").stdout, "nothing wrong was found\n")
    found_and_undone(net, "rp_filter", "rp_filter of xfrmd0 is strict (all 1, xfrmd0 0)",
                     ["sysctl -qw net.ipv4.conf.all.rp_filter=1"],
                     ["sysctl -qw net.ipv4.conf.all.rp_filter=0"])
    for option in "", "-6 ":
        found_and_undone(net, "ip-rule", "priority 900 asks for mark 0x40000000/0xc0000000",
                         [f"ip {option}rule add fwmark 0x40000000/0xc0000000 pref 900 table main"],
                         [f"ip {option}rule del pref 900"])
    found_and_undone(net, "ip-rule", "mark 0x1/0xffffffff, which has xfrmd's 0x60000000",
                     ["ip rule add fwmark 1 pref 900 table main"], ["ip rule del pref 900"])
    for option in "", "-6 ":
        found_and_undone(net, "rule-order", "priority 10 is asked before xfrmd's (50)",
                         [f"ip {option}rule add not iif eth0 pref 10 table main"],
                         [f"ip {option}rule del pref 10"])
    for harmless in "fwmark 0/0x40000000", "not fwmark 0x40000000/0x40000000":
        net.run("ip", "rule", "add", *harmless.split(" "), "pref", "10", "table", "main",
                check=True)
        equal([item[0] for item in findings(net) if item[0] == "rule-order"], [])
        net.run("ip", "rule", "del", "pref", "10", check=True)
    for harmless in "fwmark 1/0xff", "not fwmark 0xca6c", "from 192.0.2.9":
        net.run("ip", "rule", "add", *harmless.split(" "), "pref", "900", "table", "main",
                check=True)
        nothing(net)
        net.run("ip", "rule", "del", "pref", "900", check=True)


def forwarding(netns):
    net = tunnel(netns)
    policy = f"{EXEC} ip xfrm policy {{}} src {{}} dst {{}} dir fwd"
    tmpl = " tmpl src 192.0.2.2 dst 192.0.2.1 proto esp mode tunnel"
    # To this host: nothing is forwarded.
    net.run(*(policy.format("add", FAR, NEAR) + tmpl).split(" "), check=True)
    for family, src, dst, switch in (
            ("ipv4", "203.0.113.0/24", "198.51.100.0/24", "net.ipv4.ip_forward"),
            ("ipv6", "fd02::/64", "fd01::/64", "net.ipv6.conf.all.forwarding")):
        add = policy.format("add", src, dst) + tmpl
        found_and_undone(net, "forwarding", f"no device forwards {family}",
                         [f"sysctl -qw {switch}=0", add], [f"sysctl -qw {switch}=1"])
        # What the device itself says is for IPv6 no more than its part in router discovery.
        own = [f"sysctl -qw net.{family}.conf.eth0.forwarding=1"]
        found_and_undone(net, "forwarding", f"no device forwards {family}",
                         [f"sysctl -qw {switch}=0"] + own * (family == "ipv6"),
                         [policy.format("delete", src, dst)] if family == "ipv6" else own)


def nft(rules):
    return [["nft", f"add table inet host; {rules}"]], ["nft delete table inet host"]


def base_chain(hook, policy, rule=""):
    chain = f"add chain inet host c {{ type filter hook {hook} priority 0; policy {policy}; }}"
    return chain + (f"; add rule inet host c {rule}" if rule else "")


def firewalls(netns):
    net = tunnel(netns)
    net.run("sysctl", "-qw", "net.ipv4.ip_forward=1", check=True)
    closed = base_chain("input", "drop", "tcp dport 22 accept")
    found_and_undone(net, "input", '"inet host c" drops by default and has no rule for xfrmd0',
                     *nft(closed))
    found_and_undone(net, "input", "inet host c",
                     *nft(base_chain("input", "accept", "counter reject with icmp "
                                     "admin-prohibited")))
    # Nobody wants forwarded traffic yet.
    net.run("nft", "add table inet host; " + base_chain("forward", "drop"), check=True)
    nothing(net)
    net.run("nft", "delete", "table", "inet", "host", check=True)
    net.xfrm("policy", "add", "src", "203.0.113.0/24", "dst", "198.51.100.0/24", "dir", "fwd",
             "tmpl", "src", "192.0.2.2", "dst", "192.0.2.1", "proto", "esp", "mode", "tunnel",
             check=True)
    found_and_undone(net, "forward", "inet host c", *nft(base_chain("forward", "drop")))
    for harmless in (closed + "; add rule inet host c iifname xfrmd0 accept",
                     closed + '; add rule inet host c iifname "xfrm*" accept',
                     closed + "; add set inet host s { type ifname; elements = { xfrmd0 }; }; "
                     "add rule inet host c iifname @s accept",
                     base_chain("input", "accept", "tcp dport 23 drop")):
        net.run("nft", "add table inet host; " + harmless, check=True)
        nothing(net)
        net.run("nft", "delete", "table", "inet", "host", check=True)
    # One that is dormant does nothing, and is no hindrance to reading others.
    net.run("nft", "add table inet asleep { flags dormant; }", check=True)
    net.run("nft", closed.replace("host", "asleep"), check=True)
    nothing(net)
    found_and_undone(net, "input", "inet host c", *nft(closed))


def rules_by_fib_and_mark(netns):
    net = tunnel(netns)
    spoofed = "fib saddr . iif oif missing drop"
    for rule in spoofed, "fib saddr . iif oif != exists drop", "fib saddr . iif oif 0 log drop":
        found_and_undone(net, "fib", '"inet host c" drops by fib saddr . iif',
                         *nft(base_chain("prerouting", "accept", rule)))
    for rule in ("iifname xfrmd0 accept; add rule inet host c " + spoofed,
                 "iifname eth0 " + spoofed,
                 'iifname != "xfrmd0" ' + spoofed, "fib saddr . iif oif missing counter accept",
                 "fib saddr . mark . iif oif missing drop",
                 "fib daddr . iif type local accept"):
        net.run("nft", "add table inet host; " + base_chain("prerouting", "accept", rule),
                check=True)
        nothing(net)
        net.run("nft", "delete", "table", "inet", "host", check=True)
    for rule, bit in (("meta mark set 0x40000001", 0x40000000),
                      ("meta mark set meta mark or 0x20000000", 0x20000000),
                      ("meta mark & 0xf0000000 == 0x10000000 accept", 0x60000000),
                      ("ct mark 0x20000000 accept", 0x20000000)):
        found_and_undone(net, "mark", f"uses xfrmd's mark bit {bit:#x}",
                         *nft(base_chain("prerouting", "accept", rule)))
    net.run("nft", "add table inet host; " +
            base_chain("prerouting", "accept", "meta mark & 0xff == 1 accept; add rule inet host c "
                       "meta mark set meta mark and 0xfffffffe or 1"), check=True)
    nothing(net)


def source_nat(netns):
    net = tunnel(netns)
    tmpl = ["tmpl", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "mode", "tunnel"]
    rules = nft("add chain inet host c { type nat hook postrouting priority 100; }; "
                "add rule inet host c masquerade")
    run_all(net, rules[0])
    nothing(net)  # the tunnel's policies have sources of their own
    run_all(net, rules[1])
    for src, dst in ("0.0.0.0/0", "198.18.0.0/24"), ("::/0", "fd09::/64"):
        net.xfrm("policy", "add", "src", src, "dst", dst, "dir", "out", *tmpl, check=True)
        found_and_undone(net, "nat", f'the source {src}, and nftables chain "inet host c"',
                         *rules)
        net.xfrm("policy", "delete", "src", src, "dst", dst, "dir", "out", check=True)


def devices_and_the_kernel(netns):
    net = tunnel(netns, FILTERS)
    # At the backstop's own priority the newest filter is the first.
    program = "dev eth0 egress protocol all pref 1 handle 0x99 bpf"
    found_and_undone(net, "program", "another program is at tc egress of eth0",
                     [f'tc filter add {program} bytecode "1,6 0 0 0," da'],
                     [f"tc filter del {program}"])
    net.run("tc", "filter", "add", "dev", "eth0", "egress", "protocol", "all", "pref", "2", "bpf",
            "bytecode", "1,6 0 0 4294967295,", "da", check=True)
    nothing(net)
    if net.run("ip", "link", "add", "dev", "red", "type", "vrf", "table", "10").returncode == 0:
        equal(findings(net), [("vrf", "red is a VRF")])
        net.run("ip", "link", "del", "red", check=True)
    # Some kernels have no XFRM of their own.
    policy = "src 10.9.0.0/24 dst 10.8.0.0/24 dir out"
    if net.run("ip", "xfrm", "policy").returncode == 0:
        found_and_undone(net, "kernel", "the kernel's own XFRM holds 1 policies and 0 SAs",
                         [f"ip xfrm policy add {policy} action block"],
                         [f"ip xfrm policy delete {policy}"])


def esp_in_udp(netns):
    net = tunnel(netns)
    taken = in_netns(net, socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("0.0.0.0", 4500))

    def add(spi, port):
        net.xfrm("state", "add", "src", "192.0.2.2", "dst", "192.0.2.1", "proto", "esp", "spi", spi,
                 "mode", "tunnel", "aead", "rfc4106(gcm(aes))", KEY, "128", "encap", "espinudp",
                 port, port, "0.0.0.0", check=True)

    def delete(spi):
        net.xfrm("state", "delete", "src", "192.0.2.2", "dst", "192.0.2.1", "proto", "esp", "spi",
                 spi, check=True)
    add("0x3000", "4501")
    nothing(net)
    if net.xfrm("state").stdout.count("espinudp") != 1:
        raise AssertionError("no SA in UDP")
    try:
        add("0x3001", "4500")
    except subprocess.CalledProcessError:
        return  # what cannot be received is refused
    equal(findings(net), [("port", "the SA to 192.0.2.1 with SPI 0x00003001 is in UDP, and "
                           "xfrmd does not have port 4500")])
    delete("0x3001")
    nothing(net)


def the_daemon(netns):
    net = tunnel(netns)
    nothing(net)
    net.daemon.send_signal(signal.SIGSTOP)
    equal(findings(net), [("daemon", "no xfrmd answers in this network namespace")])
    net.daemon.send_signal(signal.SIGCONT)
    nothing(net)
    path = f"/tmp/{net.name}.conf"
    for text, says in (("[capture]\nmark_capture = 0x3\n", "mark_capture"),
                       ("[capture]\nmark_capture = 0\n", "mark_capture"),
                       ("[capture]\nmark_capture = 1\nmark_bypass = 1\n",
                        "mark_capture and mark_bypass must be different bits")):
        with open(path, "w") as f:
            f.write(text)
        found = findings(net, "--config", path)
        equal([item[0] for item in found], ["config"])
        holds(found[0][1], says)
    os.unlink(path)
    # Who undoes each repair is not followed for ever.
    for _ in range(200):
        net.run("ip", "rule", "del", "pref", "50")
        found = findings(net)
        if found and "not in force" in found[0][1]:
            break
    equal([item[0] for item in found], ["part"])
    holds(found[0][1], "rule of capture is not in force, last: ")
    nothing(net)
    equal(net.stop(), 0)
    equal(findings(net), [("daemon", "no xfrmd answers in this network namespace")])
    equal(net.ctl("check", "twice").returncode, 2)


def what_is_missing(netns):
    net, _ = wire(netns)
    config = f"/tmp/{net.name}.conf"
    with open(config, "w") as f:
        f.write("")
    done = subprocess.Popen(net.argv("setpriv", "--bounding-set=-ipc_lock", DAEMON, "--config",
                                     config), stderr=subprocess.DEVNULL)
    net.daemon, net.log = done, open(f"/tmp/{net.name}.log", "a+")

    def answers():
        return net.ctl("status").returncode == 0
    try:
        wait_for(answers, 20)
        equal(findings(net), [("missing", "no CAP_IPC_LOCK: memory for keys ends at the limit of "
                               "locked memory")])
    finally:
        os.unlink(config)


def saved_rulesets(netns):
    net = tunnel(netns)
    # ip netns exec puts these over /etc.
    etc = f"/etc/netns/{net.name}"
    included = f"/tmp/{net.name}.nft"
    os.makedirs(etc)
    try:
        for main_file, other, found in (
                ("flush ruleset\ntable inet filter {\n}\n", "", False),
                ("flush ruleset\n" + net.run("nft", "list", "ruleset", check=True).stdout, "",
                 True),
                ("delete table ip xfrmd\ntable ip xfrmd { }\n# table inet xfrmd {\n", "", False),
                ("delete table inet xfrmd\n", "", True),
                (f'include "{included[:-4]}*.nft"\n', "add table inet xfrmd\n", True),
                (f'include "{included}"\n', "table inet xfrmd2 { }\n", False)):
            with open(f"{etc}/nftables.conf", "w") as f:
                f.write(main_file)
            with open(included, "w") as f:
                f.write(other)
            equal(findings(net), [("saved", "/etc/nftables.conf contains table xfrmd")]
                  if found else [])
    finally:
        for path in f"{etc}/nftables.conf", included:
            os.unlink(path)
        os.rmdir(etc)


main([settings_and_rules, forwarding, firewalls, rules_by_fib_and_mark, source_nat,
      devices_and_the_kernel, esp_in_udp, the_daemon, what_is_missing, saved_rulesets])
