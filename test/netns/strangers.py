#!/usr/bin/env python3
"""What a local user without any capability can do to the TUN: nothing."""
import os
import subprocess
import tempfile

from healing import TUN, ping, tunnel
from xfrmd import equal, main, wait_for

NOBODY = 65534
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

    def attach(self, net, user=NOBODY):
        return subprocess.Popen(
            net.argv("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups",
                     "python3", "-c", ATTACH, self.path), stdin=subprocess.PIPE,
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


main([the_tun_is_the_daemons, who_is_attached_is_thrown_out])
