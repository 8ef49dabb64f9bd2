#!/usr/bin/python3
"""xfrmd against scapy's IPsec: a third implementation, and packets that no kernel sends.

Scapy builds each ESP packet with the SA's keys and takes the answer apart; the ping inside must
come back whole. Then the same packet once more (a replay), one with a bit of its ICV flipped and
one in clear must get no answer. TAP: one line a cell.

  scapy_esp.py --build build       xfrmd
  scapy_esp.py --kernel-only       the kernel peer: what a cell asks for can be done at all
"""
import argparse
import ctypes
import logging
import os
import select
import socket
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
logging.getLogger("scapy").setLevel(logging.ERROR)
import cells  # noqa: E402
import matrix  # noqa: E402

try:
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
    from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
    from scapy.layers.l2 import Ether
except ImportError as error:
    print(f"skip: {error}")
    sys.exit(77)

CRYPT = {"gcm": "AES-GCM", "ccm": "AES-CCM", "chacha": "CHACHA20-POLY1305", "cbc": "AES-CBC",
         "ctr": "AES-CTR", "null": "NULL"}
AUTH = {"sha1-96": "HMAC-SHA1-96", "sha256-128": "SHA2-256-128", "sha384-192": "SHA2-384-192",
        "sha512-256": "SHA2-512-256"}
# Scapy 2.5 does not shorten GCM's ICV.
SUITES = ("gcm128-16", "gcm192-16", "gcm256-16", "ccm128-16", "ccm256-8",
          "chacha256-16", "cbc128-sha256-128", "cbc256-sha1-96", "cbc192-sha384-192",
          "ctr128-sha256-128", "ctr256-sha512-256", "null-sha256-128", "null-sha1-96")
PAYLOADS = (b"", b"x", bytes(range(256)) * 4)
ANSWER_SECONDS = 30
CLONE_NEWNET = 0x40000000


def chosen():
    """Every suite in tunnel mode, three of them in each form; scapy has no ESN for some."""
    forms = ("gcm128-16", "cbc128-sha256-128", "null-sha256-128")
    return [cell for cell in cells.everything() if not cell.esn and cell.suite.name in SUITES
            and ((cell.mode, cell.inner, cell.outer, cell.encap) == ("tunnel", 4, 4, False)
                 or cell.suite.name in forms)]


def packet_socket(netns, device):
    """An AF_PACKET socket in another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as own, open(f"/run/netns/{netns}", "rb") as other:
        if libc.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            sock.bind((device, 0))
        finally:
            libc.setns(own.fileno(), CLONE_NEWNET)
    return sock


class Probe:
    """Scapy's side of one cell. side: of the system under test; ours is the other."""

    def __init__(self, sock, side, cell, number):
        self.sock, self.side, self.cell = sock, side, cell
        self.ip, outer = (IP, IPv6)[cell.inner == 6], (IP, IPv6)[cell.outer == 6]
        self.outer = outer
        spi = 0x10000 + 2 * number
        self.there = self._association(spi + (1 - side), 1 - side, outer)
        self.back = self._association(spi + side, side, outer)
        self.own, self.other = cells.addresses(cell, 1 - side)

    def _association(self, spi, way, outer):
        more = {}
        for kind, _, length, bits in self.cell.suite.algo:
            key = bytes.fromhex(cells.key(self.cell, way, kind, length)) if length else None
            if kind.startswith("auth"):
                more.update(auth_algo=AUTH[self.cell.suite.icv], auth_key=key)
            else:
                more.update(crypt_algo=CRYPT[self.cell.suite.cipher], crypt_key=key)
            if kind == "aead":
                more["crypt_icv_size"] = bits // 8
        if self.cell.mode == "tunnel":
            src, dst = cells.OUTER[self.cell.outer][::1 if way == 0 else -1]
            more["tunnel_header"] = outer(src=src, dst=dst)
        if self.cell.encap:
            more["nat_t_header"] = UDP(sport=cells.ENCAP_PORT, dport=cells.ENCAP_PORT)
        return SecurityAssociation(ESP, spi, **more)

    def ping(self, payload):
        echo = (ICMP(id=7, seq=len(payload)) if self.cell.inner == 4
                else ICMPv6EchoRequest(id=7, seq=len(payload)))
        packet = self.ip(src=self.own, dst=self.other) / echo / payload
        return self.ip(bytes(packet))

    def protect(self, payload):
        packet = self.there.encrypt(self.ping(payload))
        if self.cell.encap:  # scapy 2.5 leaves the length of a UDP header without payload
            packet[UDP].len = len(packet[UDP])
            packet = self.outer(bytes(packet))
        return packet

    def send(self, packet):
        frame = Ether(src=matrix.MACS[1 - self.side], dst=matrix.MACS[self.side]) / packet
        self.sock.send(bytes(frame))

    def receive(self, seconds):
        """The next packet from the other side with ESP in it, or None."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                break
            data, address = self.sock.recvfrom(65536)
            if address[2] == socket.PACKET_OUTGOING:
                continue
            frame = Ether(data)
            if self.outer in frame and ESP in frame:
                return frame[self.outer]
        return None

    def answered(self, payload):
        """What is wrong with the answer to a ping of this payload, or None."""
        answer = self.receive(ANSWER_SECONDS)
        if answer is None:
            return f"no answer to {len(payload)} bytes"
        if answer[ESP].spi != self.back.spi:
            return f"the answer's SPI is {answer[ESP].spi:#x}"
        try:
            inner = self.back.decrypt(answer)
        except (IPSecIntegrityError, TypeError, ValueError) as err:
            return f"the answer cannot be decrypted: {err!r}"
        inner = self.ip(bytes(inner))
        kind = ICMPv6EchoReply if self.cell.inner == 6 else ICMP
        if kind not in inner or inner[kind].seq != len(payload):
            return f"the answer is {inner.summary()}"
        got = inner[kind].data if self.cell.inner == 6 else bytes(inner[ICMP].payload)
        return None if bytes(got) == payload else f"the payload of {len(payload)} bytes changed"

    def faults(self):
        found, last = [], None
        for payload in PAYLOADS:
            last = self.protect(payload)
            self.send(last)
            found.append(self.answered(payload))
        self.send(last)
        broken = bytearray(bytes(self.protect(b"broken")))
        broken[-1] ^= 1
        self.send(self.outer(bytes(broken)))
        self.send(self.ping(b"clear"))
        # What is answered is answered in order: the next answer must be this one's.
        self.send(self.protect(b"barrier"))
        fault = self.answered(b"barrier")
        if fault:
            found.append(f"after a replay, a wrong ICV and a clear packet: {fault}")
        return [fault for fault in found if fault]


class Setting:
    """The system under test and scapy's socket at the other end of its wire."""

    def __init__(self, build, work):
        self.netns = [f"xfrmd-scapy-{os.getpid()}"]
        self.under_test = None
        matrix.run("ip", "netns", "add", self.netns[0])
        try:
            if build:
                self._daemon(build, work)
            else:
                self.under_test = matrix.Kernel(1, self.netns[0], "wire", work)
            self.under_test.prepare()
            self.sock = packet_socket(self.netns[0], "wire")
        except BaseException:
            self.stop()
            raise

    def _daemon(self, build, work):
        name = self.netns[0] + "-d"
        self.netns.append(name)
        matrix.run("ip", "netns", "add", name)
        matrix.run("ip", "-n", name, "link", "set", "lo", "up")
        matrix.run("ip", "link", "add", "wire", "netns", self.netns[0], "type", "veth",
                   "peer", "name", "wan", "netns", name)
        matrix.run("ip", "-n", self.netns[0], "link", "set", "wire", "up")
        self.under_test = matrix.Daemon(0, name, "wan", build, work)

    def stop(self):
        if self.under_test:
            self.under_test.stop()
        for name in self.netns:
            matrix.run("ip", "netns", "del", name, check=False)


def run_cell(setting, cell, number):
    refused = matrix.install(setting.under_test, cell, number)
    if refused:
        return [f"refused: {' '.join(refused.split())}"]
    while select.select([setting.sock], [], [], 0)[0]:  # what the cell before left behind
        setting.sock.recv(65536)
    return Probe(setting.sock, setting.under_test.side, cell, number).faults()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--kernel-only", action="store_true")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("skip: needs root")
        return 77
    failed, number = 0, 0
    with tempfile.TemporaryDirectory(prefix="xfrmd-scapy-") as work:
        setting = Setting(None if args.kernel_only else args.build, work)
        try:
            for number, cell in enumerate(chosen(), 1):
                faults = run_cell(setting, cell, number)
                failed += bool(faults)
                for fault in faults:
                    print(f"# {fault}")
                print(f"{'not ok' if faults else 'ok'} {number} - {cells.name(cell)}", flush=True)
        finally:
            setting.stop()
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"scapy_esp: {error}")
