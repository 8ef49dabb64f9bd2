"""What the tests in network namespaces share: namespaces, daemons in them, TAP."""
import atexit
import ctypes
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "build"
EXEC = f"{BUILD}/src/shim/xfrm-exec"
CTL = f"{BUILD}/src/ctl/xfrmctl"
DAEMON = f"{BUILD}/src/daemon/xfrmd"
HERE = os.path.dirname(os.path.abspath(__file__))
# Until something is taken not to happen any more: no test is about how fast the machine is.
LIMIT_S = 60
# Others may change the table of nftables, as on kernels before 6.9.
SHARED = "[capture]\nowner = no\n"
# Programs are at devices by filters of clsact, as on kernels before 6.6.
FILTERS = "[capture]\ntcx = no\n"
# Before a command in a namespace, where /sys is another one: it sees the BPF file system of the
# tests. Until main() has made that there is none.
SEES_PINS = []
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


class Netns:
    """A network namespace with loopback up, and what was started in it."""
    count = 0

    def __init__(self):
        Netns.count += 1
        self.name = f"xfrmd-t{os.getpid()}-{Netns.count}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up", check=True)
        # Link-local addresses wait a second or two for each other before neighbours are asked.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0",
                 "net.ipv6.conf.default.accept_dad=0", check=True)
        self.daemon = None
        self.log = None

    def argv(self, *args):
        return ["ip", "netns", "exec", self.name, *(SEES_PINS if args[0] in (DAEMON, CTL) else ()),
                *args]

    def run(self, *args, **options):
        options = {"text": True, "capture_output": True, "timeout": 2 * LIMIT_S, **options}
        return subprocess.run(self.argv(*args), **options)

    def xfrm(self, *args, **options):
        """The unmodified ip, through xfrm-exec."""
        return self.run(EXEC, "ip", "xfrm", *args, **options)

    def ctl(self, *args, **options):
        return self.run(CTL, *args, **options)

    def ask(self, *args):
        """xfrmctl's answer as Python sees it."""
        done = self.ctl(*args, "--json", check=True)
        return json.loads(done.stdout)

    def inode(self):
        return os.stat(f"/run/netns/{self.name}").st_ino

    def path(self, suffix):
        return f"/run/xfrmd/{self.inode()}.{suffix}"

    def start(self, *args):
        """Start the daemon and wait until it says that it is ready."""
        self.log = open(f"/tmp/{self.name}.log", "a+")
        self.daemon = subprocess.Popen(self.argv(DAEMON, *args), stderr=self.log, stdout=self.log)
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self.daemon.poll() is None:
            if "ready: network namespace" in self.text():
                return
            time.sleep(0.05)
        raise RuntimeError(f"xfrmd did not start: {self.text()}")

    def start_with(self, config):
        """The same with this configuration."""
        path = f"/tmp/{self.name}.conf"
        with open(path, "w") as f:
            f.write(config)
        try:
            self.start("--config", path)
        finally:
            os.unlink(path)

    def text(self):
        with open(self.log.name) as f:
            return f.read()

    def stop(self, how=signal.SIGTERM):
        """End the daemon; its exit status, negative for a signal."""
        self.daemon.send_signal(how)
        status = self.daemon.wait(timeout=LIMIT_S)
        self.daemon = None
        self.log.truncate(0)
        return status

    def close(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
        for suffix in ("sock", "group", "ctl", "lock", "policies", "policies.new", "policies.old",
                       "names"):
            if os.path.exists(self.path(suffix)):
                os.unlink(self.path(suffix))
        subprocess.run(["ip", "netns", "del", self.name], check=False)
        if self.log:
            self.log.close()
            os.unlink(self.log.name)


def add_sa(net, spi=0x1000, **options):
    """An SA between two documentation addresses; the finished command."""
    return net.xfrm("state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi",
                    hex(spi), "reqid", "1", "mode", "tunnel", "aead", "rfc4106(gcm(aes))",
                    "0x0102030405060708090a0b0c0d0e0f1011121314", "128", **options)


def wire(netns):
    """Two namespaces with one wire, as the documentation addresses of add_sa() want it."""
    near, far = netns(), netns()
    subprocess.run(["ip", "link", "add", "eth0", "netns", near.name, "type", "veth", "peer", "name",
                    "eth0", "netns", far.name], check=True)
    for net, addr in (near, "192.0.2.1/24"), (far, "192.0.2.2/24"):
        net.run("ip", "addr", "add", addr, "dev", "eth0", check=True)
        net.run("ip", "link", "set", "eth0", "up", check=True)
    return near, far


def protect(net):
    """A route and an out policy for add_sa()'s SA: what goes to 198.51.100.0/24."""
    net.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2", check=True)
    done = net.xfrm("policy", "add", "src", "192.0.2.1", "dst", "198.51.100.0/24", "dir", "out",
                    "tmpl", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "reqid", "1",
                    "mode", "tunnel")
    equal(done.stderr, "")


KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"
ESP_IN_UDP = "encap", "espinudp", "4500", "4500", "0.0.0.0"


def gateway_sas(net, encap=()):
    """SAs both ways for a tunnel over wire(), of either end."""
    for src, dst, spi in ("192.0.2.1", "192.0.2.2", "0x1000"), ("192.0.2.2", "192.0.2.1", "0x2000"):
        net.xfrm("state", "add", "src", src, "dst", dst, "proto", "esp", "spi", spi, "reqid", "1",
                 "mode", "tunnel", "flag", "af-unspec", "replay-window", "32", "aead",
                 "rfc4106(gcm(aes))", KEY, "128", *encap, check=True)


def _gateway(net, here, there, ends, encap):
    net.run("ip", "addr", "add", f"{here}/32", "dev", "lo", check=True)
    net.run("ip", "route", "add", there, "via", ends[1], "src", here, "mtu", "1400", check=True)
    gateway_sas(net, encap)
    for direction, src, dst, a, b in ("out", here, there, *ends), ("in", there, here, *ends[::-1]):
        net.xfrm("policy", "add", "src", src, "dst", dst, "dir", direction, "tmpl", "src", a, "dst",
                 b, "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)


def gateways(near, far, addrs, encap=()):
    """Routes, SAs both ways and policies for a tunnel between @addrs, over wire()."""
    _gateway(near, *addrs, ("192.0.2.1", "192.0.2.2"), encap)
    _gateway(far, *addrs[::-1], ("192.0.2.2", "192.0.2.1"), encap)


def run_in_netns(net, make):
    """What make() returns, called in another network namespace."""
    made = []

    def enter():
        with open(f"/run/netns/{net.name}") as ns:
            if LIBC.setns(ns.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(make())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


def in_netns(net, family, kind, proto=0):
    """A socket of another network namespace: sockets stay where they were made."""
    return run_in_netns(net, lambda: socket.socket(family, kind, proto))


def checksum(data):
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    total = (total & 0xffff) + (total >> 16)
    return 0xffff - (total & 0xffff) - (total >> 16)


def echo(net, to, count=1, interval=0.05, wait=LIMIT_S):
    """How many of so many pings came back, the last one within @wait.

    ping(8) waits for no longer than twice the slowest answer so far.
    """
    sock = in_netns(net, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    ident = struct.pack("!H", random.getrandbits(16))
    back = set()

    def hear(until):
        while len(back) < count and (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                packet = sock.recv(2048)
            except TimeoutError:
                return
            icmp = packet[(packet[0] & 15) * 4:]
            if icmp[:2] == b"\0\0" and icmp[4:6] == ident:
                back.add(icmp[6:8])

    with sock:
        for number in range(count):
            rest = ident + struct.pack("!H", number) + bytes(48)
            try:
                sock.sendto(struct.pack("!BBH", 8, 0, checksum(b"\x08\0" + rest)) + rest, (to, 0))
            except OSError:
                pass  # it does not come back
            hear(time.monotonic() + interval)
        hear(time.monotonic() + wait)
    return len(back)


def stream(near, far, addrs, size, tos=0, port=5001):
    """Send @size bytes of noise over TCP, from and to @addrs: the same must arrive."""
    family = socket.AF_INET6 if ":" in addrs[1] else socket.AF_INET
    listener = in_netns(far, family, socket.SOCK_STREAM)
    listener.bind((addrs[1], port))
    listener.listen(1)
    noise = os.urandom(size)
    digest = hashlib.sha256()

    def receive():
        peer, _ = listener.accept()
        while part := peer.recv(1 << 18):
            digest.update(part)
        peer.close()

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    sender = in_netns(near, family, socket.SOCK_STREAM)
    sender.settimeout(LIMIT_S)
    if family == socket.AF_INET:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    else:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    sender.bind((addrs[0], 0))
    sender.connect((addrs[1], port))
    sender.sendall(noise)
    sender.close()
    thread.join(LIMIT_S)
    listener.close()
    equal(digest.hexdigest(), hashlib.sha256(noise).hexdigest())


def equal(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def holds(text, part):
    if part not in text:
        raise AssertionError(f"{part!r} is not in {text!r}")


def wait_for(what, seconds=LIMIT_S):
    """Until what() is true: waiting for another process."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what.__name__} did not come true")
        time.sleep(0.02)


def arrived(listener):
    """How many datagrams there are."""
    count = 0
    try:
        while listener.recv(100):
            count += 1
    except BlockingIOError:
        return count


def passes(send, listener):
    """Does a datagram arrive? Neighbours may have to be found first."""
    seen = 0

    def comes():
        nonlocal seen
        send()
        seen += arrived(listener)
        return seen
    wait_for(comes)


def stays_away(send, count, listener):
    """Send until @count() has moved by five; nothing may have arrived. What was under way before
    something has changed has been taken in."""
    arrived(listener)
    before = count()

    def dropped():
        send()
        return count() >= before + 5
    wait_for(dropped)
    equal(arrived(listener), 0)


def counter(net, group, name):
    return lambda: net.ask("stats")[group].get(name, 0)


def tries(what, times):
    """True once in so many times: where the machine may spoil one, and a fault spoils them all."""
    if not any(what() for _ in range(times)):
        raise AssertionError(f"{what.__name__} did not come true in {times} times")


def make_bpffs():
    """A BPF file system for the pins of all daemons here; this process takes it away again."""
    path = tempfile.mkdtemp(prefix="xfrmd-bpffs-")
    if subprocess.run(["mount", "-t", "bpf", "bpf", path], check=False).returncode == 0:
        SEES_PINS[:] = ["sh", "-c", 'mount --bind "$0" /sys/fs/bpf && exec "$@"', path]
        atexit.register(os.rmdir, path)
        atexit.register(subprocess.run, ["umount", path], check=False)
    else:
        os.rmdir(path)


def skip_all(reason):
    """Say so in TAP: of an exit status of 77 without a plan meson makes an error."""
    print(f"1..1\nok 1 - {os.path.basename(sys.argv[0])} # SKIP {reason}")
    sys.exit(0)


def main(tests):
    """Run each of the functions; TAP on stdout."""
    if os.geteuid() != 0:
        skip_all("needs root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    make_bpffs()
    failed = 0
    print(f"1..{len(tests)}", flush=True)
    for number, test in enumerate(tests, 1):
        nets = []
        try:
            test(lambda: nets.append(Netns()) or nets[-1])
            print(f"ok {number} - {test.__name__}", flush=True)
        except Exception as error:  # whatever it is, the next test shall run
            failed += 1
            print(f"not ok {number} - {test.__name__}", flush=True)
            for line in f"{type(error).__name__}: {error}".splitlines():
                print(f"# {line}", flush=True)
            for net in nets:
                for line in net.text().splitlines() if net.log else ():
                    print(f"# {line}")
        finally:
            for net in nets:
                net.close()
    sys.exit(1 if failed else 0)
