#!/usr/bin/env python3
"""What a local user without any capability can do with the TUN: nothing."""
import os
import socket
import subprocess
import tempfile

from healing import FAR, NEAR, TUN, ping, tunnel
from xfrmd import equal, in_netns, main, wait_for

AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "python3", "-c")
# Attach to the TUN as one of its queues, say so, and then whether it is still one.
ATTACH = r"""
import fcntl, os, struct, sys
tun = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH14x", b"xfrmd0", 0x5101))
    print("attached", flush=True)
except OSError as error:
    sys.exit(error.strerror)
sys.stdin.read()
try:
    fcntl.ioctl(tun, 0x800454d2, bytes(32))
    print("attached")
except OSError as error:
    print(error.strerror)
"""


# Send from a socket that is bound to the TUN.
SEND = r"""
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"xfrmd0")
try:
    sender.sendto(b"bound", ("192.0.2.2", 7000))
except PermissionError:
    pass  # dropped where the sender is told
"""


class Device:
    """/dev/net/tun as most hosts have it: anybody may open it."""

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory()
        os.chmod(self.dir.name, 0o755)
        self.path = f"{self.dir.name}/tun"
        os.mknod(self.path, 0o20666, os.makedev(10, 200))
        os.chmod(self.path, 0o666)
        return self

    def __exit__(self, *_):
        self.dir.cleanup()

    def attach(self, net):
        return subprocess.Popen(net.argv(*AS_NOBODY, ATTACH, self.path), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(device, net):
    out, err = device.attach(net).communicate(timeout=60)
    equal((out, err.strip()), ("", "Operation not permitted"))


def index(net):
    return net.run("ip", "-o", "link", "show", TUN, check=True).stdout.split(":")[0]


def the_tun_is_the_daemons(netns):
    """Nobody else becomes a queue of it, be the daemon there or not, the TUN its first or not."""
    near, _ = tunnel(netns, "[daemon]\nworkers = 2\n")
    with Device() as device:
        refused(device, near)
        near.run("ip", "link", "del", TUN, check=True)
        wait_for(lambda: ping(near))
        refused(device, near)
        near.stop()
        refused(device, near)


def who_is_attached_is_thrown_out(netns):
    """A TUN that an earlier version has left is anybody's, until there is a daemon again."""
    near, _ = tunnel(netns)
    before = index(near)
    near.stop()
    near.start_with("[daemon]\nworkers = 2\n")
    equal(index(near), before)  # nobody else is: it stays
    near.stop()
    near.run("ip", "link", "del", TUN, check=True)
    near.run("ip", "tuntap", "add", TUN, "mode", "tun", "multi_queue", "vnet_hdr", check=True)
    with Device() as device:
        stranger = device.attach(near)
        equal(stranger.stdout.readline(), "attached\n")
        near.start_with("[daemon]\nworkers = 2\n")
        equal(stranger.communicate(timeout=60), ("File descriptor in bad state\n", ""))
        refused(device, near)


def nobody_sends_as_the_daemon(netns):
    """A socket bound to the TUN: what no policy wants does not leave as the daemon's own."""
    near, far = tunnel(netns)
    with in_netns(far, socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("192.0.2.2", 7000))
        server.settimeout(0.5)
        before = near.ask("stats")["capture"]["misrouted_dropped"]
        near.run(*AS_NOBODY, SEND, check=True)
        equal(near.ask("stats")["capture"]["misrouted_dropped"] - before, 1)
        try:
            raise AssertionError(server.recvfrom(100))
        except TimeoutError:
            pass
    # What a policy wants goes there, bound or not.
    near.run("ping", "-q", "-c", "1", "-W", "20", "-I", TUN, "-I", NEAR, FAR,
             check=True)


main([the_tun_is_the_daemons, who_is_attached_is_thrown_out, nobody_sends_as_the_daemon])
