#!/usr/bin/env python3
"""The path MTU of SAs follows devices, routes and rules, for SAs old and new."""
from xfrmd import EXEC, KEY, add_sa, equal, main, wait_for, wire

MARK = "0x20000000/0x20000000"  # of what the daemon sends


def mtus(net):
    sas = net.ask("sa")
    return {sa["path_mtu"] for sa in (sas["sa"] if isinstance(sas, dict) else sas)}


def follow(net, spi, mtu):
    """All SAs learn of @mtu, and so does one that is made from here on."""
    def learned():
        return mtus(net) == {mtu}

    wait_for(learned)
    add_sa(net, spi, check=True)
    equal(mtus(net), {mtu})


def ready(netns):
    near, _ = wire(netns)
    # Its addresses come later, and tell of routes when nobody waits for that.
    near.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1", check=True)
    near.start()
    for spi in 0x1000, 0x1001:
        add_sa(near, spi, check=True)
    equal(mtus(near), {1500})
    return near


def a_device(netns):
    near = ready(netns)
    near.run("ip", "link", "set", "eth0", "mtu", "1400", check=True)
    follow(near, 0x2000, 1400)
    near.run("ip", "link", "set", "eth0", "mtu", "1450", check=True)
    follow(near, 0x2001, 1450)


def a_route(netns):
    near = ready(netns)
    near.run("ip", "route", "add", "192.0.2.2", "dev", "eth0", "mtu", "1300", check=True)
    follow(near, 0x2000, 1300)
    near.run("ip", "route", "del", "192.0.2.2", check=True)
    follow(near, 0x2001, 1500)


def a_rule(netns):
    near = ready(netns)
    near.run("ip", "route", "add", "192.0.2.2", "dev", "eth0", "mtu", "1200", "table", "77",
             check=True)
    follow(near, 0x2000, 1500)
    near.run("ip", "rule", "add", "fwmark", MARK, "lookup", "77", check=True)
    follow(near, 0x2001, 1200)
    near.run("ip", "rule", "del", "fwmark", MARK, "lookup", "77", check=True)
    follow(near, 0x2002, 1500)


MANY = 10000


def many_sas(netns):
    """They learn of a change some at a time; of one that comes meanwhile too."""
    near = ready(netns)
    done = near.run(EXEC, "ip", "-batch", "-", input="".join(
        "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp "
        f"spi {0x3000 + i} reqid 1 mode tunnel "
        f"aead rfc4106(gcm(aes)) {KEY} 128\n" for i in range(MANY)))
    equal(done.stderr, "")
    # So quickly that it has not told all of one change when the next one comes.
    near.run("ip", "-batch", "-", check=True,
             input="".join(f"link set eth0 mtu {1300 + i % 100}\n" for i in range(1000)))
    follow(near, 0x2000, 1399)
    equal(len(near.ask("sa")), 2 + MANY + 1)


main([a_device, a_route, a_rule, many_sas])
