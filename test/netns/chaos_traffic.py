"""Traffic of chaos.py in one thread: flows both ways, forged plaintext, and who has seen what.

World is nat_table's: h1 - g1 = g2 - h2. Judged is what is on the wire between the gateways and on
h1's link, by packet sockets, and what a socket of g1 itself receives.
"""
import ctypes
import ipaddress
import os
import selectors
import socket
import struct
import threading
import time

from xfrmd import in_netns, wait_for

V4, V6 = socket.AF_INET, socket.AF_INET6
PORT, LOCAL_PORT = 7500, 4001
BYPASS = 0x20000000
OURS, FORGED = b"chaos", b"forged"
NEAR = [ipaddress.ip_network(net) for net in ("10.0.1.0/24", "fd01::/64")]
FAR = [ipaddress.ip_network(net) for net in ("10.0.2.0/24", "fd02::/64")]
OUTGOING = socket.PACKET_OUTGOING
SOL_PACKET, PACKET_STATISTICS = 263, 6
TICK_S = 0.005


def family_of(addr):
    return V6 if ":" in addr else V4


def packet_socket(net, dev):
    sock = in_netns(net, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
    sock.bind((dev, 3))
    sock.setblocking(False)
    return sock


def ends(frame):
    """Addresses and protocol of an Ethernet frame of IP, else None."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= 34:
        return (ipaddress.ip_address(frame[26:30]), ipaddress.ip_address(frame[30:34]), frame[23])
    if kind == b"\x86\xdd" and len(frame) >= 54:
        return (ipaddress.ip_address(frame[22:38]), ipaddress.ip_address(frame[38:54]), frame[20])
    return None


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff or 0xffff


def datagram(src, dst, sport, dport):
    """A forged one, without the Ethernet header."""
    a, b = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    payload = FORGED + b"!!"
    size = 8 + len(payload)
    pseudo = a.packed + b.packed + struct.pack("!HH", 17, size)
    head = struct.pack("!HHH", sport, dport, size)
    udp = head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + payload)) + payload
    if a.version == 6:
        return b"\x86\xdd", struct.pack("!IHBB", 6 << 28, size, 17, 64) + pseudo[:32] + udp
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, 17, 0) + pseudo[:8]
    return b"\x08\x00", ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp


class Flow:
    """Datagrams to an echo server; a fresh one gets a new source port again and again."""

    def __init__(self, net, src, dst, fresh=False, size=20):
        self.net, self.src, self.dst, self.fresh, self.size = net, src, dst, fresh, size
        self.sent = self.answered = 0
        self.sock = None

    def __str__(self):
        return f"{'fresh ' * self.fresh}{self.src}->{self.dst} of {self.size}"


class Traffic:
    """What flows until close(); counters are read by the test's thread."""

    def __init__(self, world):
        self.world = world
        self.selector = selectors.DefaultSelector()
        self.clear = {}  # what left in clear: description -> packets
        self.forged = {}  # what came in
        self.errors = []
        self.paused = self.over = False
        self.idle = threading.Event()
        self.forger = in_netns(world.g2, socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.forger.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, BYPASS)
        self.forger.bind(("wan", 0))
        self.wire, self.inside = packet_socket(world.g2, "wan"), packet_socket(world.h1, "eth0")
        self.listen(self.wire, self.see_wire)
        self.listen(self.inside, self.see_inside)
        self.echoes = []
        for net, *addrs in (world.h2, "10.0.2.2", "fd02::2"), (world.h1, "10.0.1.2", "fd01::2"):
            self.echoes += [self.udp(net, addr, PORT, self.echo) for addr in addrs]
        self.local = [self.udp(world.g1, addr, LOCAL_PORT, self.see_local)
                      for addr in ("10.0.1.1", "fd01::1")]
        self.flows = [Flow(net, src, dst, fresh, size) for net, src, dst in (
            (world.h1, "10.0.1.2", "10.0.2.2"), (world.h1, "fd01::2", "fd02::2"),
            (world.h2, "10.0.2.2", "10.0.1.2"), (world.h2, "fd02::2", "fd01::2"),
            (world.g1, "10.0.1.1", "10.0.2.2"), (world.g1, "fd01::1", "fd02::2"))
            for fresh, size in ((False, 20), (True, 20))]
        self.flows += [Flow(world.h1, "10.0.1.2", "10.0.2.2", size=3000),
                       Flow(world.h1, "fd01::2", "fd02::2", size=3000)]
        for flow in self.flows:
            self.open(flow)
        self.forgeries = self.make_forgeries()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def make_forgeries(self):
        macs = {net: net.run("cat", "/sys/class/net/wan/address", check=True).stdout.strip()
                for net in (self.world.g1, self.world.g2)}
        head = b"".join(bytes.fromhex(macs[net].replace(":", ""))
                        for net in (self.world.g1, self.world.g2))
        frames = []
        for src, h1, g1 in ("10.0.2.9", "10.0.1.2", "10.0.1.1"), ("fd02::9", "fd01::2", "fd01::1"):
            peer = src.replace("9", "2")
            for args in ((src, h1, 4000, 4000), (src, g1, 4000, LOCAL_PORT),
                         (peer, h1, PORT, 7001), (peer, g1, 4000, LOCAL_PORT)):
                kind, packet = datagram(*args)
                frames.append(head + kind + packet)
        return frames

    def listen(self, sock, function):
        self.selector.register(sock, selectors.EVENT_READ, function)

    def udp(self, net, addr, port, function):
        sock = in_netns(net, family_of(addr), socket.SOCK_DGRAM)
        sock.bind((addr, port))
        sock.setblocking(False)
        self.listen(sock, function)
        return sock

    def open(self, flow):
        if flow.sock:
            self.selector.unregister(flow.sock)
            flow.sock.close()
        flow.sock = self.udp(flow.net, flow.src, 0, lambda sock: self.answer(flow, sock))
        # A socket that has no route when it connects would never have one.

    # --- what happens at sockets ---

    @staticmethod
    def receive(sock):
        while True:
            try:
                yield sock.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error, or the device went down
                continue

    def echo(self, sock):
        for data, peer in self.receive(sock):
            if data.startswith(OURS):
                try:
                    sock.sendto(data, peer)
                except OSError:
                    pass

    def answer(self, flow, sock):
        for data, _ in self.receive(sock):
            if data.startswith(OURS):
                flow.answered = max(flow.answered, int(data[len(OURS):].split(b".")[0]))

    def see_local(self, sock):
        for data, peer in self.receive(sock):
            if FORGED in data:
                self.count(self.forged, f"{peer[0]} to g1")

    def see_inside(self, sock):
        for frame, addr in self.receive(sock):
            if addr[2] != OUTGOING and FORGED in frame:
                self.count(self.forged, "{} to {} on h1's link".format(*ends(frame)))

    def see_wire(self, sock):
        for frame, addr in self.receive(sock):
            seen = ends(frame)
            if not seen or FORGED in frame:
                continue
            src, dst, proto = seen
            nets = (FAR, NEAR) if addr[2] == OUTGOING else (NEAR, FAR)
            whole = proto == 17 and OURS in frame  # may have another source: NAT
            if any(dst in net for net in nets[1]) and (whole or any(src in net for net in nets[0])):
                self.count(self.clear, f"{src}->{dst} protocol {proto}")

    def count(self, where, what):
        where[what] = where.get(what, 0) + 1

    # --- the thread ---

    def send(self, turn):
        for flow in self.flows:
            if flow.fresh and turn % 10 == 0:
                self.open(flow)
            if flow.size > 1000 and turn % 8:
                continue
            data = OURS + str(flow.sent + 1).encode() + b"."
            try:
                flow.sock.sendto(data.ljust(flow.size, b"."), (flow.dst, PORT))
            except OSError:  # no route for the moment, or what an ICMP error said
                continue
            flow.sent += 1
        for frame in self.forgeries:
            try:
                self.forger.send(frame)
            except OSError:
                pass

    def run(self):
        turn, due = 0, 0
        try:
            while not self.over:
                for key, _ in self.selector.select(TICK_S):
                    key.data(key.fileobj)
                if self.paused:
                    self.idle.set()
                elif time.monotonic() >= due:
                    turn, due = turn + 1, time.monotonic() + TICK_S
                    self.send(turn)
        except Exception as error:  # the test tells
            self.errors.append(error)

    # --- for the test's thread ---

    def flow_again(self, seconds=30):
        """Wait until each flow has an answer to something that is sent from now on."""
        marks = [(flow, flow.sent) for flow in self.flows]

        def all_have_answers():
            if self.errors:
                raise self.errors[0]
            return all(flow.answered > mark for flow, mark in marks)
        try:
            wait_for(all_have_answers, seconds)
        except AssertionError as error:
            dumb = [str(flow) for flow, mark in marks if flow.answered <= mark]
            raise AssertionError(f"no answer for {', '.join(dumb)}") from error

    def pause(self):
        """Nothing is sent any more, and what was sent has arrived, or nowhere."""
        self.idle.clear()
        self.paused = True
        self.idle.wait(30)
        time.sleep(0.1)

    def resume(self):
        self.paused = False

    def take(self):
        """What was seen since the last call: (in clear, forged)."""
        if self.errors:
            raise self.errors[0]
        for sock in self.wire, self.inside:
            _, lost = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            if lost:
                raise AssertionError(f"the capture lost {lost} packets")
        seen, self.clear, self.forged = (self.clear, self.forged), {}, {}
        return seen

    def close(self):
        self.over = True
        self.thread.join()
        self.selector.close()
        for sock in (self.wire, self.inside, self.forger, *self.local, *self.echoes,
                     *(flow.sock for flow in self.flows)):
            sock.close()


def own_run(kib):
    """A /run/xfrmd of this size for this process and what it starts; others' mounts stay."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x20000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    os.makedirs("/run/xfrmd", exist_ok=True)
    for args in (None, b"/", None, 0x80000 | 0x4000, None), \
                (b"x", b"/run/xfrmd", b"tmpfs", 0, f"mode=755,size={kib}k".encode()):
        if libc.mount(*args[:3], ctypes.c_ulong(args[3]), args[4]):
            raise OSError(ctypes.get_errno(), "mount")
