#!/usr/bin/env python3
"""The backstop at devices: by pinned links, and by filters where those cannot be had."""
import os
import signal
import socket
import subprocess

import tcx
import xfrmd
from healing import FAR, NEAR, TUN, heals, parts, tunnel
from tcx import names, programs
from xfrmd import CTL, FILTERS, SHARED, equal, holds, in_netns, main, wait_for, wire

LINKED = (["xf_ingress"], ["xf_egress"])
NONE = ([], [])
LONG_S = 20


def stand(net, device="eth0"):
    """Those of the backstop; native ESP may have one of its own."""
    return [name for name in names(net, device, "ingress") if name != "xf_ring"], \
        names(net, device, "egress")


def backstop(net):
    """Links at eth0, by the names of programs."""
    return [dict(programs(net, "eth0", side))[f"xf_{side}"] for side in ("ingress", "egress")]


def filters(net, device="eth0"):
    """Of ours: sides."""
    return [side for side in ("ingress", "egress") if "handle 0x7866" in net.run(
        "tc", "filter", "show", "dev", device, side).stdout]


def pins():
    """All there are, in all namespaces."""
    top = f"{xfrmd.SEES_PINS[-1]}/xfrmd"
    return sorted(os.path.join(path, file) for path, _, files in os.walk(top) for file in files)


def send(net, src, dst, text):
    with in_netns(net, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((src, 0))
        try:
            sock.sendto(text, (dst, 4001))
        except OSError:
            pass  # the route may say so


class Wire:
    """What comes to eth0 of far, in order."""

    def __init__(self, far, device="eth0"):
        self.socket = in_netns(far, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind((device, 0x0800))
        self.socket.settimeout(0.5)
        self.count = 0

    def until(self, text, again):
        """Frames before that with @text, which is sent again until it comes."""
        frames = []
        for _ in range(2 * xfrmd.LIMIT_S):
            again()
            try:
                while text not in (frame := self.socket.recv(2048)):
                    frames.append(frame)
                return frames
            except TimeoutError:
                pass
        raise AssertionError(f"{text} did not come")

    def has_clear(self, net, src=NEAR, dst=FAR):
        """Does what @net sends come in clear? What nobody wants, sent behind it, tells."""
        self.count += 1
        asked, fence = (b"%s%08d" % (word, self.count) for word in (b"asked", b"fence"))
        send(net, src, dst, asked)
        frames = self.until(fence, lambda: send(net, "192.0.2.1", "192.0.2.2", fence))
        return any(asked in frame for frame in frames)


def uncapture(net):
    """Nothing but the backstop is left."""
    net.run("nft", "flush", "ruleset", check=True)
    net.run("ip", "rule", "del", "pref", "50", check=True)


class halted:
    """The daemon of @net stands still, and nothing but the backstop is left."""

    def __init__(self, net):
        self.net = net

    def __enter__(self):
        self.net.daemon.send_signal(signal.SIGSTOP)
        uncapture(self.net)

    def __exit__(self, *_):
        self.net.daemon.send_signal(signal.SIGCONT)


def discipline(net, verb, kind, device="eth0"):
    net.run("tc", "qdisc", verb, "dev", device, kind, check=True)


def status(net):
    return net.ask("status")["capture"]


def checked(net):
    """Names of what xfrmctl check finds, and all it says."""
    done = net.ctl("check")
    return [line.split()[0] for line in done.stdout.splitlines() if done.returncode], done.stdout


def somebodys_ingress(netns):
    """A qdisc of kind ingress is where clsact would be: links need neither."""
    near, far = wire(netns)
    discipline(near, "add", "ingress")
    near.start_with(SHARED)
    xfrmd.protect(near)
    seen = Wire(far)
    equal(stand(near), LINKED)
    equal((status(near)["backstop_devices"], status(near)["backstop_lacks"]), (1, ""))
    with halted(near):
        equal(seen.has_clear(near, "192.0.2.1", "198.51.100.7"), False)
    equal(checked(near)[0], [])


def somebodys_ingress_and_filters(netns):
    """Where there are no links, it is said that egress has no backstop, and as soon as it can, it
    has one."""
    near, far = wire(netns)
    discipline(near, "add", "ingress")
    near.start_with(SHARED + "tcx = no\n")
    xfrmd.protect(near)
    seen = Wire(far)
    says = "no backstop at eth0: what somebody else has put there leaves no room"
    equal(near.text().count(says), 1)
    equal((status(near)["backstop_devices"], status(near)["backstop_lacks"]), (0, "eth0"))
    holds(near.ctl("status").stdout, "NOT AT eth0\n")
    equal(checked(near)[0], ["device"])
    holds(checked(near)[1], says)
    # What is for egress does not see what comes.
    equal("xf_egress" in near.run("tc", "filter", "show", "dev", "eth0", "ingress").stdout, False)
    with halted(near):
        equal(seen.has_clear(near, "192.0.2.1", "198.51.100.7"), True)
    discipline(near, "del", "ingress")
    wait_for(lambda: status(near)["backstop_lacks"] == "", LONG_S)
    equal(filters(near), ["ingress", "egress"])
    holds(near.text(), "the backstop is at every device again")
    equal(checked(near)[0], [])
    with halted(near):
        equal(seen.has_clear(near, "192.0.2.1", "198.51.100.7"), False)
    equal(near.text().count(says), 1)


def filters_in_a_shared_block(netns):
    """Nor is there room where somebody shares his filters among devices."""
    near, _ = wire(netns)
    near.run("tc", "qdisc", "add", "dev", "eth0", "egress_block", "7", "clsact", check=True)
    near.run("ip", "link", "add", "other0", "type", "veth", "peer", "name", "other1", check=True)
    near.run("tc", "qdisc", "add", "dev", "other0", "egress_block", "7", "clsact", check=True)
    near.start_with(FILTERS)
    equal(set(status(near)["backstop_lacks"].split(", ")), {"eth0", "other0"})
    equal(status(near)["backstop_devices"], 1)
    near.stop()
    near.start()
    equal((status(near)["backstop_devices"], status(near)["backstop_lacks"]), (3, ""))


def tc_takes_nothing_away(netns):
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    equal((stand(near), filters(near)), (LINKED, []))
    before = backstop(near)
    discipline(near, "add", "clsact")
    discipline(near, "del", "clsact")
    with halted(near):
        equal(seen.has_clear(near), False)
    equal(backstop(near), before)
    equal((parts(near)["backstop"]["losses"]), 0)


def taken_by_force(netns):
    """No event tells of it: it is looked for."""
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    for side in "egress", "ingress":
        link = dict(programs(near, "eth0", side))[f"xf_{side}"]
        heals(near, "backstop", lambda net, link=link: tcx.detach(link),
              "a program's link at eth0 was taken away: put back")
        equal(stand(near), LINKED)
    pin = [path for path in pins() if path.endswith("-egress")]
    heals(near, "backstop", lambda net: [os.unlink(path) for path in pin],
          "a program's link at eth0 was taken away: put back")
    with halted(near):
        equal(seen.has_clear(near), False)


def taken_from_the_tun(netns):
    """Without links at netfilter's hooks the backstop has a program on the TUN, too."""
    near, _ = tunnel(netns, "[capture]\ntwin = tc\n")
    equal(names(near, TUN), ["xf_tun"])
    link = programs(near, TUN)[0][1]
    heals(near, "backstop", lambda net: tcx.detach(link),
          f"a program's link at {TUN} was taken away: put back")
    equal(names(near, TUN), ["xf_tun"])


def a_daemon_that_is_killed(netns):
    """It leaves its links behind, and the next one takes them over as they are."""
    near, far = tunnel(netns, SHARED)
    seen = Wire(far)
    before = backstop(near)
    for how in signal.SIGKILL, signal.SIGTERM:
        near.stop(how)
        uncapture(near)
        equal(seen.has_clear(near), False)
        near.start_with(SHARED)
        equal(backstop(near), before)
        with halted(near):
            equal(seen.has_clear(near), False)
        # The programs are the new daemon's: they go by its policies.
        near.xfrm("policy", "add", "src", NEAR, "dst", "192.0.2.2", "dir", "out", "action",
                  "block", check=True)
        with halted(near):
            equal(seen.has_clear(near, NEAR, "192.0.2.2"), False)
        near.xfrm("policy", "delete", "src", NEAR, "dst", "192.0.2.2", "dir", "out", check=True)
    equal(parts(near)["backstop"]["losses"], 0)


def from_filters_and_back(netns):
    """An upgrade finds filters, what comes after it links."""
    near, far = tunnel(netns, SHARED + "tcx = no\n")
    seen = Wire(far)
    for config, links, there in (SHARED, LINKED, []), (SHARED + "tcx = no\n", NONE,
                                                       ["ingress", "egress"]):
        near.stop(signal.SIGKILL)
        uncapture(near)
        equal(seen.has_clear(near), False)
        near.start_with(config)
        equal((stand(near), filters(near)), (links, there))
        with halted(near):
            equal(seen.has_clear(near), False)
        equal(checked(near)[0], [])


def a_form_of_twin_that_has_no_part_of_it(netns):
    """What an earlier daemon had at ingress would go by policies that were."""
    for config in "", "tcx = no\n":
        near, _ = wire(netns)
        near.start_with(SHARED + config)
        near.stop(signal.SIGKILL)
        near.start_with(SHARED + config + "twin = none\n")
        equal((names(near, "eth0", "ingress"), "ingress" in filters(near)), ([], False))


def released(netns):
    """With a daemon, without one, and by who does not see the file system."""
    near, far = tunnel(netns)
    seen = Wire(far)
    equal(near.ctl("release").returncode, 0)
    equal((stand(near), seen.has_clear(near)), (NONE, True))
    near.stop()
    for blind in False, True:
        near.start()
        equal(stand(near), LINKED)
        near.stop(signal.SIGKILL)
        done = subprocess.run(["ip", "netns", "exec", near.name, CTL, "release"], text=True,
                              capture_output=True, check=False) if blind else near.ctl("release")
        equal((done.returncode, done.stderr), (0, ""))
        equal(stand(near), NONE)
    far.stop(signal.SIGKILL)
    far.ctl("release", check=True)


def others_before_ours(netns):
    """Ours is the first when it comes; who comes before it is found."""
    near, _ = wire(netns)
    with os.fdopen(tcx.attach(near, "eth0", tcx.PASS, False), "rb", 0):
        near.start()
        equal(names(near, "eth0")[0], "xf_egress")
        equal(checked(near)[0], [])
        with os.fdopen(tcx.attach(near, "eth0", tcx.NEXT, True), "rb", 0):
            equal(checked(near)[0], ["program"])
            holds(checked(near)[1], "another program is at tc egress of eth0")
        equal(checked(near)[0], [])
    near.stop()
    near.start_with(FILTERS)
    equal(checked(near)[0], [])
    with os.fdopen(tcx.attach(near, "eth0", tcx.NEXT, True), "rb", 0):
        equal(checked(near)[0], ["program"])


def ip_batch(net, lines):
    done = net.run("ip", "-batch", "-", input="\n".join(lines) + "\n")
    equal((done.returncode, done.stderr), (0, ""))


def a_namespace_that_is_gone(netns):
    """Links keep none alive, and the next daemon anywhere takes the pins away."""
    near, other = netns(), netns()
    near.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "a1", check=True)
    near.start()
    near.stop(signal.SIGKILL)
    left = pins()
    equal(len(left), 4)
    subprocess.run(["ip", "netns", "del", near.name], check=True)
    subprocess.run(["ip", "netns", "add", near.name], check=True)
    other.start()
    # A namespace ends a little after its name.
    def is_swept():
        other.stop()
        other.start()
        return not set(left) & set(pins())
    wait_for(is_swept, LONG_S)


def number_that_comes_again(netns):
    """Another device has it: its link is not the one that is pinned."""
    near, _ = wire(netns)
    near.run("ip", "link", "add", "a0", "index", "77", "type", "veth", "peer", "name", "a1",
             check=True)
    near.start()
    for alive in True, False:
        wait_for(lambda: stand(near, "a0") == LINKED)
        if not alive:
            near.stop(signal.SIGKILL)
        ip_batch(near, ["link del a0", "link add a0 index 77 type veth peer name a1"])
        if not alive:
            equal(stand(near, "a0"), NONE)
            near.start()
    wait_for(lambda: stand(near, "a0") == LINKED)


def devices_that_move(netns):
    """Into another namespace the link goes along, where our policies are nobody's."""
    near, away, far = netns(), netns(), netns()
    subprocess.run(["ip", "link", "add", "eth0", "netns", near.name, "type", "veth", "peer",
                    "name", "eth0", "netns", far.name], check=True)
    far.run("ip", "link", "set", "eth0", "up", check=True)
    far.run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0", check=True)
    near.start()
    near.xfrm("policy", "add", "dst", "192.0.2.0/24", "dir", "out", "action", "block", check=True)
    wait_for(lambda: stand(near) == LINKED)
    seen = Wire(far)

    def settle():
        ip_batch(away, ["link set eth0 up", "addr add 192.0.2.1/24 dev eth0"])

    for killed in True, False:
        if killed:
            near.stop(signal.SIGKILL)
        else:
            near.daemon.send_signal(signal.SIGSTOP)
        near.run("ip", "link", "set", "eth0", "netns", away.name, check=True)
        settle()
        # It is still there, and lets pass what near's policies would refuse.
        equal(stand(away), LINKED)
        seen.until(b"fence", lambda: send(away, "192.0.2.1", "192.0.2.2", b"fence"))
        if killed:
            near.start()
        else:
            near.daemon.send_signal(signal.SIGCONT)
        wait_for(lambda: stand(away) == NONE)
        away.run("ip", "link", "set", "eth0", "netns", near.name, check=True)
        wait_for(lambda: stand(near) == LINKED)
    equal(len(pins()), 2)


def nowhere_to_pin(netns):
    """Filters, and status says why; a directory of somebody else is none for us."""
    near, _ = wire(netns)
    near.start_with("[capture]\nbpffs = /tmp\n")
    equal(status(near)["why_no_links"], "there is no BPF file system to pin links in")
    equal((stand(near), filters(near)), (NONE, ["ingress", "egress"]))
    near.stop()
    top = f"{xfrmd.SEES_PINS[-1]}/xfrmd"
    os.makedirs(top, exist_ok=True)
    for uid, mode in (65534, 0o700), (0, 0o777):
        os.makedirs(f"{top}/7", exist_ok=True)
        os.chown(top, uid, uid)
        os.chmod(top, mode)
        near.start()
        equal(status(near)["why_no_links"], "the directory for pins is not ours alone")
        equal(filters(near), ["ingress", "egress"])
        near.stop()
    equal("7" in os.listdir(top), True)
    os.chmod(top, 0o700)
    near.start()
    equal((status(near)["why_no_links"], stand(near)), ("", LINKED))


main([
    somebodys_ingress,
    somebodys_ingress_and_filters,
    filters_in_a_shared_block,
    tc_takes_nothing_away,
    taken_by_force,
    taken_from_the_tun,
    a_daemon_that_is_killed,
    from_filters_and_back,
    a_form_of_twin_that_has_no_part_of_it,
    released,
    others_before_ours,
    a_namespace_that_is_gone,
    number_that_comes_again,
    devices_that_move,
    nowhere_to_pin,
])
