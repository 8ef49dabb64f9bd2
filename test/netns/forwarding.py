#!/usr/bin/env python3
"""What comes out of tunnels is forwarded where Linux would: by the device of the outer packet."""
import signal
import socket
import subprocess

from xfrmd import (DAEMON, ESP_IN_UDP, KEY, equal, holds, in_netns, main, wait_for, wire)

PORT = 5060
OUTER4, OUTER6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")
NETS = ("10.0.1.0/24", "10.0.2.0/24"), ("fd01::/64", "fd02::/64")
SOURCE = "10.0.1.1", "fd01::1"
HERE, BEHIND, BROADCAST = ("10.0.2.1", "fd02::1"), ("10.0.2.2", "fd02::2"), "10.0.2.255"
NOT_FORWARDED = "XfrmdInNotForwarded"


def has_forced(net):
    return net.run("test", "-e", "/proc/sys/net/ipv6/conf/all/force_forwarding").returncode == 0


def setting(net, family, device, value=None):
    """Of a device; with @value it is set."""
    name = f"net.{family}.conf.{device}"
    if value is not None:
        net.run("sysctl", "-qw", f"{name}={value}", check=True)
    return net.run("sysctl", "-n", name, check=True).stdout.strip()


def four(net, **devices):
    for device, value in devices.items():
        setting(net, "ipv4", f"{device}.forwarding", value)


def forced(net, **devices):
    for device, value in devices.items():
        setting(net, "ipv6", f"{device}.force_forwarding", value)


def refused_by_kernel(net, six):
    """Packets that the kernel had no way for."""
    if six:
        with open(f"/proc/{net.daemon.pid}/net/snmp6") as f:
            return int(dict(line.split() for line in f)["Ip6InAddrErrors"])
    with open(f"/proc/{net.daemon.pid}/net/snmp") as f:
        names, values = [line.split() for line in f if line.startswith("Ip:")]
    return int(values[names.index("InAddrErrors")])


class World:
    """near has the sources, far is the gateway that is looked at, host is behind its "lan"."""

    def __init__(self, netns, config="", outer=OUTER4, encap=()):
        self.near, self.far = wire(netns)
        self.host = netns()
        self.outer, self.encap, self.config = outer, encap, config
        self.sent = 0
        self.lay_wires()
        for net in self.near, self.far:
            net.start_with(config)
            self.add_sa(net)
            self.add_policies(net)
        self.receivers = [self.listen(self.host), self.listen(self.far)]

    def lay_wires(self):
        near, far, host = self.near, self.far, self.host
        subprocess.run(["ip", "link", "add", "lan", "netns", far.name, "type", "veth", "peer",
                        "name", "eth0", "netns", host.name], check=True)
        far.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0",
                check=True)
        for net, dev, addrs in (near, "eth0", (OUTER6[0] + "/64",)), \
                               (near, "lo", (SOURCE[0] + "/32", SOURCE[1] + "/128")), \
                               (far, "eth0", (OUTER6[1] + "/64",)), \
                               (far, "lan", (HERE[0] + "/24", HERE[1] + "/64")), \
                               (host, "eth0", (BEHIND[0] + "/24", BEHIND[1] + "/64")):
            net.run("ip", "link", "set", dev, "up", check=True)
            for addr in addrs:
                net.run("ip", "addr", "add", addr, "dev", dev, *["nodad"] * (":" in addr),
                        check=True)
        near.run("ip", "route", "add", NETS[0][1], "via", OUTER4[1], "src", SOURCE[0], check=True)
        near.run("ip", "route", "add", NETS[1][1], "via", OUTER6[1], "src", SOURCE[1], check=True)
        far.run("ip", "route", "add", NETS[0][0], "via", OUTER4[0], check=True)
        far.run("ip", "route", "add", NETS[1][0], "via", OUTER6[0], check=True)

    def ends(self):
        return "src", self.outer[0], "dst", self.outer[1], "proto", "esp"

    def add_sa(self, net):
        net.xfrm("state", "add", *self.ends(), "spi", "0x1000", "reqid", "1", "mode", "tunnel",
                 "flag", "af-unspec", "aead", "rfc4106(gcm(aes))", KEY, "128", *self.encap,
                 check=True)

    def add_policies(self, net):
        for direction in ("out",) if net is self.near else ("in", "fwd"):
            for src, dst in NETS:
                net.xfrm("policy", "add", "src", src, "dst", dst, "dir", direction, "tmpl",
                         *self.ends(), "reqid", "1", "mode", "tunnel", check=True)

    def listen(self, net):
        sock = in_netns(net, socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", PORT))
        sock.setblocking(False)
        return sock

    def send(self, to):
        """A datagram, and what is in it."""
        self.sent += 1
        data = b"%d" % self.sent
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with in_netns(self.near, family, socket.SOCK_DGRAM) as sock:
            sock.bind((SOURCE[family == socket.AF_INET6], 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(data, (to, PORT))
        return data

    def received(self):
        """All that has come, to the host and to the gateway itself."""
        found = [set(), set()]
        for sock, into in zip(self.receivers, found):
            try:
                while True:
                    into.add(sock.recv(100))
            except BlockingIOError:
                pass
        return found

    def comes(self, to, where):
        """Until one does: neighbours have to be found first, and settings are followed."""
        sent = set()

        def has_come():
            sent.add(self.send(to))
            return sent & self.received()[where]
        wait_for(has_come)

    def forwards(self, six=False):
        self.comes(BEHIND[six], 0)

    def delivers(self, to):
        self.comes(to, 1)

    def dropped(self, count, six):
        """At last, where @count() counts it."""
        before = count()

        def follows():
            self.send(BEHIND[six])
            return count() > before
        wait_for(follows)
        self.all_dropped(count, six)

    def all_dropped(self, count, six):
        """What is sent from now on is counted there, and the host gets none of it."""
        before = count()
        sent = {self.send(BEHIND[six]) for _ in range(5)}

        def all_counted():
            return count() >= before + 5
        wait_for(all_counted)
        equal(sent & self.received()[0], set())

    def counted(self):
        return self.far.ask("stats")["xfrm_stat"][NOT_FORWARDED]

    def drops(self, six=False):
        """By the device, counted as that."""
        self.dropped(self.counted, six)

    def kernel_drops(self, six=False):
        """No device forwards: the TUN does not, the kernel refuses and counts it itself."""
        def count():
            return refused_by_kernel(self.far, six)
        self.dropped(count, six)
        before = self.counted()
        self.all_dropped(count, six)
        equal(self.counted(), before)

    def tun_is(self, value, name="forwarding", family="ipv4"):
        def is_set():
            return setting(self.far, family, f"xfrmd0.{name}") == value
        wait_for(is_set)


def by_the_settings_of_each_device(netns):
    world = World(netns)
    far = world.far
    equal(setting(far, "ipv4", "xfrmd0.forwarding"), "0")
    world.kernel_drops()
    world.delivers(HERE[0])
    four(far, eth0=1)
    world.tun_is("1")
    world.forwards()
    # Elsewhere it is forwarded, but not from there. The daemon has read of that when it answers.
    four(far, lan=1, eth0=0)
    far.ask("status")
    world.all_dropped(world.counted, False)
    world.delivers(HERE[0])
    world.delivers(BROADCAST)
    equal(setting(far, "ipv4", "xfrmd0.forwarding"), "1")
    four(far, eth0=1)
    world.forwards()
    four(far, eth0=0, lan=0)
    world.tun_is("0")
    world.kernel_drops()
    # All of them, and those to come.
    far.run("sysctl", "-qw", "net.ipv4.ip_forward=1", check=True)
    world.forwards()
    four(far, eth0=0)
    world.drops()
    equal(far.ask("status")["missing"], [])


def goes_by_device(world, counter):
    """While its packets come by the way that @counter counts."""
    four(world.far, eth0=1)
    world.forwards()
    four(world.far, lan=1, eth0=0)
    world.drops()
    before = world.far.ask("stats")["io"][counter]
    world.all_dropped(world.counted, False)
    equal(world.far.ask("stats")["io"][counter] > before, True)


def by_every_socket(netns):
    """Raw and UDP sockets know the device."""
    for config, outer, encap, counter in (
            ("[io]\nnative = raw\n", OUTER4, (), "raw_rx"),
            ("[daemon]\nworkers = 2\n", OUTER4, ESP_IN_UDP, "udp_rx"),
            ("", OUTER6, (), "raw_rx"),
            ("", OUTER6, (*ESP_IN_UDP[:-1], "::"), "udp_rx")):
        goes_by_device(World(netns, config, outer, encap), counter)


def by_the_ring(netns):
    """It takes the packets of those whom the gateway sends to."""
    world = World(netns)
    far = world.far
    ends = "src", OUTER4[1], "dst", OUTER4[0], "proto", "esp"
    far.xfrm("state", "add", *ends, "spi", "0x2000", "reqid", "2", "mode", "tunnel", "aead",
             "rfc4106(gcm(aes))", KEY, "128", check=True)
    far.xfrm("policy", "add", "src", NETS[0][1], "dst", NETS[0][0], "dir", "out", "tmpl", *ends,
             "reqid", "2", "mode", "tunnel", check=True)
    sender = in_netns(far, socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((HERE[0], 0))

    def is_settled():
        sender.sendto(b"", (SOURCE[0], PORT))
        status = far.ask("status")["native"]
        return status["from_ring"] or status["why_not_ring"] == "this kernel has no tcx"
    with sender:
        wait_for(is_settled)
    goes_by_device(world, "ring_rx" if far.ask("status")["native"]["from_ring"] else "raw_rx")


def ipv6_by_one_setting_for_all(netns):
    world = World(netns)
    far = world.far
    setting(far, "ipv6", "eth0.forwarding", 1)
    setting(far, "ipv6", "lan.forwarding", 1)
    world.kernel_drops(six=True)
    setting(far, "ipv6", "all.forwarding", 1)
    setting(far, "ipv6", "eth0.forwarding", 0)
    setting(far, "ipv6", "xfrmd0.forwarding", 0)
    world.forwards(six=True)
    # IPv4 is not concerned.
    world.kernel_drops()
    setting(far, "ipv6", "all.forwarding", 0)
    world.kernel_drops(six=True)
    world.delivers(HERE[1])


def ipv6_where_it_is_forced(netns):
    world = World(netns)
    far = world.far
    if not has_forced(far):
        print("# this kernel has no force_forwarding (before 6.17)")
        return
    forced(far, eth0=1)
    world.tun_is("1", "force_forwarding", "ipv6")
    world.forwards(six=True)
    forced(far, lan=1, eth0=0)
    world.drops(six=True)
    world.delivers(HERE[1])
    setting(far, "ipv6", "all.forwarding", 1)
    world.forwards(six=True)
    setting(far, "ipv6", "all.forwarding", 0)
    world.kernel_drops(six=True)
    forced(far, lan=1)
    world.drops(six=True)
    # The kernel takes it from all devices, and tells nobody.
    setting(far, "ipv6", "all.forwarding", 0)
    equal(setting(far, "ipv6", "lan.force_forwarding"), "0")
    before = refused_by_kernel(far, True)

    def seen():
        world.send(BEHIND[1])
        return refused_by_kernel(far, True) > before
    wait_for(seen)
    world.kernel_drops(six=True)


def what_becomes_of_the_tun(netns):
    """Its own setting follows, whatever others do to it."""
    world = World(netns)
    far = world.far
    four(far, eth0=1)
    world.tun_is("1")
    setting(far, "ipv4", "xfrmd0.forwarding", 0)
    world.tun_is("1")
    far.run("ip", "link", "del", "xfrmd0", check=True)

    def is_back():
        return far.run("test", "-e", "/proc/sys/net/ipv4/conf/xfrmd0").returncode == 0
    wait_for(is_back)
    world.tun_is("1")
    world.forwards()
    # While no daemon runs, devices change.
    far.stop(signal.SIGKILL)
    four(far, eth0=0, lan=1)
    far.start_with(world.config)
    world.add_sa(far)
    world.drops()
    far.stop(signal.SIGKILL)
    four(far, lan=0)
    far.start_with(world.config)
    equal(setting(far, "ipv4", "xfrmd0.forwarding"), "0")


def settings_that_cannot_be_changed(netns):
    """Said once in the log, in the status and by check, until it is not so any more."""
    world = World(netns)
    far = world.far
    far.stop()
    plain = far.argv
    read_only = ("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && "
                 'exec "$@"')
    far.argv = lambda *args: plain(*(("sh", "-c", read_only, "sh") if args[0] == DAEMON else ()),
                                   *args)
    far.start()
    equal(far.ask("status")["missing"], [])
    four(far, eth0=1)

    def is_missing():
        return far.ask("status")["missing"]
    wait_for(is_missing)
    says = "no forwarding on the TUN"
    holds(far.ask("status")["missing"][0], says)
    holds(far.ctl("check").stdout, f"missing    {says}")
    four(far, lan=1)
    world.add_sa(far)
    world.dropped(lambda: refused_by_kernel(far, False), False)
    equal(far.text().count(says), 1)
    # Somebody else does it.
    four(far, xfrmd0=1)

    def is_not_missing():
        return not far.ask("status")["missing"]
    wait_for(is_not_missing)
    world.forwards()
    # Nor can it be taken back: the workers see to that.
    four(far, eth0=0, lan=0)
    world.drops()
    equal((setting(far, "ipv4", "xfrmd0.forwarding"), far.ask("status")["missing"]), ("1", []))


if __name__ == "__main__":
    main([by_the_settings_of_each_device, by_every_socket, by_the_ring, ipv6_by_one_setting_for_all,
          ipv6_where_it_is_forced, what_becomes_of_the_tun, settings_that_cannot_be_changed])
