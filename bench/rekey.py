#!/usr/bin/env python3
"""Replace one end's SA from 192.0.2.1 to 192.0.2.2 at a steady rate. Run it under xfrm-exec.

    rekey.py near|far START COUNT RATE FIRST OLD

Step i is due at START + i / RATE (CLOCK_MONOTONIC, seconds); SPI FIRST + i takes the place of the
one before it, the first one that of OLD. The far end is to know an SA before the near one sends
with it and still after it has stopped to: it adds AROUND steps ahead and deletes as many behind.
A JSON line says how many steps there were and how long they took.
"""
import json
import socket
import struct
import sys
import time

AROUND = 300  # steps: a third of a second of either end's delay
NETLINK_XFRM = 6
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NEWSA, DELSA = 0x10, 0x11
ATTR_ENCAP, ATTR_AEAD = 4, 18
REPLAY_WINDOW, TUNNEL, UDP_ENCAP_ESPINUDP = 64, 1, 2
HDR = struct.Struct("IHHII")
SRC, DST = (bytes([192, 0, 2, last]) + bytes(12) for last in (1, 2))
KEY = bytes.fromhex("0102030405060708090a0b0c0d0e0f1011121314")


def attribute(kind, body):
    return struct.pack("HH", 4 + len(body), kind) + body


def new_sa(spi):
    ident = DST + struct.pack(">I", spi) + bytes([socket.IPPROTO_ESP]) + bytes(3)
    limits = struct.pack("8Q", *[(1 << 64) - 1] * 4, 0, 0, 0, 0)
    info = (bytes(56) + ident + SRC + limits + bytes(32) + bytes(12)
            + struct.pack("IIHBBB", 0, 1, socket.AF_INET, TUNNEL, REPLAY_WINDOW, 0) + bytes(7))
    aead = (b"rfc4106(gcm(aes))".ljust(64, b"\0") + struct.pack("II", 8 * len(KEY), 128) + KEY)
    encap = struct.pack("H", UDP_ENCAP_ESPINUDP) + struct.pack(">HH", 4500, 4500) + bytes(2 + 16)
    return NEWSA, info + attribute(ATTR_AEAD, aead) + attribute(ATTR_ENCAP, encap)


def del_sa(spi):
    return DELSA, (DST + struct.pack(">I", spi)
                   + struct.pack("HBB", socket.AF_INET, socket.IPPROTO_ESP, 0))


class Netlink:
    def __init__(self):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM)
        self.seq = 0

    def ask(self, request):
        kind, body = request
        self.seq += 1
        self.sock.send(HDR.pack(HDR.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK, self.seq, 0)
                       + body)
        error, = struct.unpack_from("i", self.sock.recv(65536), HDR.size)
        if error:
            raise SystemExit(f"rekey: message {kind:#x}: error {error}")


def pace(start, count, rate, step):
    for i in range(count):
        wait = start + i / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        step(i)
    return time.monotonic() - start


def near(netlink, first, old):
    def step(i):
        netlink.ask(new_sa(first + i))
        netlink.ask(del_sa(first + i - 1 if i else old))
    return step


def far(netlink, first, old, count):
    for i in range(min(AROUND, count)):
        netlink.ask(new_sa(first + i))

    def step(i):
        if i + AROUND < count:
            netlink.ask(new_sa(first + i + AROUND))
        if i >= AROUND:
            netlink.ask(del_sa(first + i - 1 - AROUND if i > AROUND else old))
    return step


def main():
    start, rate = float(sys.argv[2]), float(sys.argv[4])
    count, first, old = (int(sys.argv[i], 0) for i in (3, 5, 6))
    netlink = Netlink()
    if sys.argv[1] == "near":
        seconds = pace(start, count, rate, near(netlink, first, old))
    else:
        seconds = pace(start, count, rate, far(netlink, first, old, count))
        time.sleep(AROUND / rate)
        for i in range(count - AROUND - 1, count - 1):
            netlink.ask(del_sa(first + i))
    print(json.dumps({"steps": count, "seconds": seconds}))


main()
