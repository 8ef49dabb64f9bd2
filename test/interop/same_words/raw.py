#!/usr/bin/env python3
"""Requests that `ip` does not make, byte by byte, and what comes back: for the kernel and xfrmd.

Written like words.sh: each request has a name, then the datagrams of the answer, without
extended acknowledgements, whose sentences depend on the kernel's version.
"""
import socket
import struct

(NEWSA, DELSA, GETSA, NEWPOLICY, DELPOLICY, GETPOLICY, ALLOCSPI, ACQUIRE, EXPIRE, UPDPOLICY, UPDSA,
 POLEXPIRE, FLUSHSA, FLUSHPOLICY, NEWAE, GETAE, REPORT, MIGRATE, NEWSADINFO, GETSADINFO, NEWSPDINFO,
 GETSPDINFO, MAPPING, SETDEFAULT, GETDEFAULT) = range(0x10, 0x29)
ALG_AUTH, ALG_CRYPT, ALG_COMP, ENCAP, TMPL = range(1, 6)
SEC_CTX, LTIME, REPLAY, RTHRESH, ETHRESH, SRCADDR, COADDR, LASTUSED, PTYPE, MIGRATION, AEAD = range(
    8, 19)
TRUNC, MARK, TFCPAD, REPLAY_ESN, EXTRA, PROTO, FILTER = range(20, 27)
OFFLOAD, SET_MARK, SET_MARK_MASK, IF_ID = range(28, 32)
REQUEST, ACK, DUMP, REPLACE = 1, 4, 0x300, 0x100
NO_REQUEST = -1  # stands for ACK without REQUEST
HEADERS = {NEWSA: 224, NEWPOLICY: 168, NEWAE: 48}
INF = 2**64 - 1
LIMITS = struct.pack("8Q", INF, INF, INF, INF, 0, 0, 0, 0)
SRC = socket.inet_aton("10.0.0.1").ljust(16, b"\0")
DST = socket.inet_aton("10.0.0.2").ljust(16, b"\0")
KEY = bytes(range(1, 65))


def attr(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def selector(family=0, dst_len=0, src_len=0):
    return bytes(32) + struct.pack("8xHBBBxxxII", family, dst_len, src_len, 0, 0, 0)


def info(family=2, mode=1, proto=50, spi=0x1234, flags=0, window=0, sel=selector()):
    return (sel + DST + struct.pack(">IB3x", spi, proto) + SRC + LIMITS + bytes(44)
            + struct.pack("IIHBBB7x", 0, 1, family, mode, window, flags))


def sa_id(spi=0x1234, family=2, proto=50):
    return DST + struct.pack(">I", spi) + struct.pack("HBx", family, proto)


def spi_range(low, high, **more):
    return info(spi=0, **more) + struct.pack("II", low, high)


def alg(name, bits=0, *more, key=KEY):
    head = name.encode().ljust(64, b"\0") + struct.pack(f"{1 + len(more)}I", bits, *more)
    return head + key[:(bits + 7) // 8]


def policy(direction=1, family=2, action=0, share=0, index=0, dst_len=0):
    return (selector(family, dst_len) + LIMITS + bytes(32)
            + struct.pack("IIBBBB4x", 0, index, direction, action, 0, share))


def policy_id(direction=1, family=2, index=0):
    return selector(family) + struct.pack("IB3x", index, direction)


def template(family=2, mode=1, proto=50, optional=0):
    return (bytes(20) + struct.pack("B3xH2x16xIBBBx3I", proto, family, 1, mode, 0, optional,
                                    *[2**32 - 1] * 3))


def esn(words, window=32, bitmap=None):
    bits = bytes(4 * words) if bitmap is None else bitmap
    return struct.pack("6I", words, 0, 0, 0, 0, window) + bits


NULL = attr(ALG_CRYPT, alg("ecb(cipher_null)"))
GCM = attr(AEAD, alg("rfc4106(gcm(aes))", 160, 128))
SUB = attr(PTYPE, struct.pack("B5x", 1))
PATH = bytes(range(1, 65)) + struct.pack("BBHIHH", 50, 1, 0, 1, 2, 2)

REQUESTS = [
    ("new: header too short", NEWSA, info()[:100]),
    ("new: family 3", NEWSA, info(family=3) + NULL),
    ("new: selector family 3", NEWSA, info(sel=selector(3)) + NULL),
    ("new: prefix 33", NEWSA, info(sel=selector(2, 33)) + NULL),
    ("new: prefix 129", NEWSA, info(sel=selector(10, 0, 129)) + NULL),
    ("new: protocol 99", NEWSA, info(proto=99) + NULL),
    ("new: no algorithm", NEWSA, info()),
    ("new: AEAD and cipher", NEWSA, info() + NULL + GCM),
    ("new: IPComp's algorithm", NEWSA, info() + GCM + attr(ALG_COMP, alg("deflate"))),
    ("new: hash alone", NEWSA, info() + attr(ALG_AUTH, alg("hmac(sha1)", 160))),
    ("new: short key", NEWSA,
     info() + attr(AEAD, alg("rfc4106(gcm(aes))", 160, 128, key=KEY[:19]))),
    ("new: short cipher key", NEWSA, info() + attr(ALG_CRYPT, alg("cbc(aes)", 128, key=KEY[:15]))),
    ("new: short hash key", NEWSA, info() + attr(TRUNC, alg("hmac(sha1)", 160, 96, key=KEY[:19]))),
    ("new: key of odd bits", NEWSA, info() + attr(ALG_CRYPT, alg("cbc(aes)", 127))),
    ("del: key of odd bits", DELSA, sa_id()),
    ("new: name without end", NEWSA, info() + attr(ALG_CRYPT, b"x" * 64 + bytes(4))),
    ("new: mode 9", NEWSA, info(mode=9) + NULL),
    ("new: mode 3", NEWSA, info(mode=3) + NULL),
    ("new: route optimisation", NEWSA, info(mode=2) + NULL),
    ("new: route optimisation, IPv6", NEWSA, info(mode=2, family=10) + NULL),
    ("flush: route optimisation", FLUSHSA, bytes(4)),
    ("new: family change in transport mode", NEWSA, info(mode=0, sel=selector(10)) + NULL),
    ("new: TFC in transport mode", NEWSA, info(mode=0) + NULL + attr(TFCPAD, bytes(4))),
    ("new: security context", NEWSA, info() + NULL + attr(SEC_CTX, bytes(8))),
    ("new: ESN flag alone", NEWSA, info(flags=128) + NULL),
    ("new: long bitmap", NEWSA, info(flags=128) + NULL + attr(REPLAY_ESN, esn(129))),
    ("new: short bitmap", NEWSA, info(flags=128) + NULL + attr(REPLAY_ESN, esn(2, 32, bytes(4)))),
    ("new: two windows", NEWSA, info(window=2) + NULL + attr(REPLAY_ESN, esn(1))),
    ("new: window beyond the bitmap", NEWSA, info() + NULL + attr(REPLAY_ESN, esn(1, 33))),
    ("new: ESN without window", NEWSA, info(flags=128) + NULL + attr(REPLAY_ESN, esn(1, 0))),
    ("new: encapsulation 99", NEWSA, info() + NULL + attr(ENCAP, struct.pack("H22x", 99))),
    ("new: short mark", NEWSA, info() + NULL + attr(MARK, bytes(7))),
    ("new: short integer", NEWSA, info() + NULL + attr(IF_ID, bytes(3))),
    ("new: short nested", NEWSA, info() + NULL + attr(MARK | 0x8000, bytes(3))),
    ("new: attribute beyond the message", NEWSA, info() + NULL + struct.pack("HH", 99, MARK)),
    ("new: bitmap left out", NEWSA, info(flags=128) + NULL + attr(REPLAY_ESN, esn(2, 64, b""))),
    ("get: bitmap left out", GETSA, sa_id()),
    ("new: again", NEWSA, info() + NULL),
    ("update", UPDSA, info() + NULL),
    ("update: another encapsulation", UPDSA, info() + NULL + attr(ENCAP, struct.pack("H22x", 2))),
    ("update: other SPI", UPDSA, info(spi=7) + NULL),
    ("ae: nothing", NEWAE, sa_id() + bytes(24)),
    ("ae: not replace", NEWAE, sa_id() + bytes(24) + attr(LTIME, bytes(32))),
    ("ae: bitmap of other size", NEWAE, sa_id() + bytes(24) + attr(REPLAY_ESN, esn(1)),
     ACK | REPLACE),
    ("ae: other SPI", NEWAE, sa_id(9) + bytes(24) + attr(LTIME, bytes(32)), ACK | REPLACE),
    ("ae: lifetime", NEWAE, sa_id() + bytes(24) + attr(LTIME, struct.pack("4Q", 5, 6, 7, 8)),
     ACK | REPLACE),
    ("get: lifetime", GETSA, sa_id()),
    ("get ae", GETAE, sa_id() + bytes(16) + struct.pack("II", 9, 0)),
    ("get ae: other SPI", GETAE, sa_id(9) + bytes(24)),
    ("expire: other SPI", EXPIRE, info(spi=9) + bytes(8)),
    ("expire: soft", EXPIRE, info() + bytes(8)),
    ("expire: hard", EXPIRE, info() + b"\1" + bytes(7)),
    ("get: expired", GETSA, sa_id()),
    ("new: everything twice, unknown attributes", NEWSA,
     info() + attr(IF_ID, b"\1\0\0\0") + GCM + GCM + attr(IF_ID, b"\2\0\0\0")
     + attr(500, b"abc") + attr(IF_ID, b"\3\0\0\0\4\0\0\0")
     + attr(COADDR, bytes(16)) + attr(REPLAY, struct.pack("III", 1, 2, 3))),
    ("get: everything", GETSA, sa_id()),
    ("get: mark that does not matter", GETSA, sa_id() + attr(MARK, b"\1\0\0\0" * 2)),
    ("get: family 0", GETSA, sa_id(family=0)),
    ("get: protocol without SPI", GETSA, sa_id(proto=43)),
    ("get: protocol without SPI, by address", GETSA, sa_id(proto=43) + attr(SRCADDR, SRC)),
    ("del: IPComp", DELSA, sa_id(proto=108)),
    ("dump: short attribute", GETSA, attr(MARK, b"a"), DUMP),
    ("dump: long prefix", GETSA, attr(FILTER, bytes(32) + struct.pack("HBB", 2, 129, 0)), DUMP),
    ("dump: all", GETSA, b"", DUMP),
    ("dump: protocol", GETSA, attr(PROTO, b"\x33"), DUMP),
    ("flush: protocol 99", FLUSHSA, b"\x63\0\0\0"),
    ("flush: IPsec", FLUSHSA, b"\xff\0\0\0"),
    ("flush: too short", FLUSHSA, b""),
    ("spi: min above max", ALLOCSPI, spi_range(6, 5)),
    ("spi: protocol 0", ALLOCSPI, spi_range(5, 5, proto=0)),
    ("spi: IPComp above 65535", ALLOCSPI, spi_range(5, 0x10000, proto=108)),
    ("spi: 5", ALLOCSPI, spi_range(5, 5)),
    ("spi: 5 again", ALLOCSPI, spi_range(5, 5)),
    ("spi: mode 9", ALLOCSPI, spi_range(6, 6, mode=9)),
    ("spi: 7, no acknowledgement", ALLOCSPI, spi_range(7, 7) + attr(IF_ID, b"\7\0\0\0"), 0),
    ("expire: larval", EXPIRE, info(spi=5) + bytes(8)),
    ("ae: larval", NEWAE, sa_id(5) + bytes(24) + attr(LTIME, bytes(32)), ACK | REPLACE),
    ("get: larval", GETSA, sa_id(5)),
    ("del: larval", DELSA, sa_id(5)),
    ("flush", FLUSHSA, bytes(4)),
    ("policy: share 4", NEWPOLICY, policy(share=4)),
    ("policy: share 3", NEWPOLICY, policy(share=3)),
    ("policy: action 2", NEWPOLICY, policy(action=2)),
    ("policy: family 0", NEWPOLICY, policy(family=0)),
    ("policy: prefix 33", NEWPOLICY, policy(dst_len=33)),
    ("policy: prefix 129", NEWPOLICY, policy(family=10, dst_len=129)),
    ("policy: direction 3", NEWPOLICY, policy(direction=3)),
    ("policy: index of another direction", NEWPOLICY, policy(index=8)),
    ("policy: type 2", NEWPOLICY, policy() + attr(PTYPE, struct.pack("B5x", 2))),
    ("policy: seven templates", NEWPOLICY, policy() + attr(TMPL, template() * 7)),
    ("policy: template mode 9", NEWPOLICY, policy() + attr(TMPL, template(mode=9))),
    ("policy: template family 3", NEWPOLICY, policy() + attr(TMPL, template(family=3))),
    ("policy: template family 0", UPDPOLICY, policy() + attr(TMPL, template(family=0))),
    ("policy: template protocol 17", NEWPOLICY, policy() + attr(TMPL, template(proto=17))),
    ("policy: optional tunnel", NEWPOLICY, policy() + attr(TMPL, template(optional=1))),
    ("policy: short template", NEWPOLICY, policy() + attr(TMPL, template()[:60])),
    ("policy: template and a bit", NEWPOLICY, policy(dst_len=3) + attr(TMPL, template() + b"abc")),
    ("get policy: direction 3", GETPOLICY, policy_id(direction=3)),
    ("get policy: family 0", GETPOLICY, policy_id(family=0)),
    ("get policy", GETPOLICY, policy_id()),
    ("get policy: index of another direction", GETPOLICY, policy_id(direction=0, index=1)),
    ("dump policies", GETPOLICY, attr(MARK, b"a"), DUMP),
    ("expire policy: another", POLEXPIRE, policy(direction=0) + bytes(8)),
    ("expire policy: soft", POLEXPIRE, policy() + bytes(8)),
    ("expire policy: hard", POLEXPIRE, policy() + b"\1" + bytes(7)),
    ("get policy: expired", GETPOLICY, policy_id()),
    ("flush policies: type 5", FLUSHPOLICY, attr(PTYPE, struct.pack("B5x", 5))),
    ("flush policies: sub", FLUSHPOLICY, SUB),
    ("flush policies", FLUSHPOLICY, b""),
    ("migrate: nothing", MIGRATE, policy_id()),
    ("migrate: short", MIGRATE, policy_id() + attr(MIGRATION, PATH[:60])),
    ("migrate: seven", MIGRATE, policy_id() + attr(MIGRATION, PATH * 7)),
    ("migrate: twice the same", MIGRATE, policy_id() + attr(MIGRATION, PATH * 2)),
    ("thresholds: 33", NEWSPDINFO, bytes(4) + attr(3, b"\x21\0")),
    ("thresholds: short", NEWSPDINFO, bytes(4) + attr(4, b"\x21")),
    ("get defaults", GETDEFAULT, bytes(4)),
    ("set defaults: nothing", SETDEFAULT, b"\0\3\2\0"),
    ("set defaults: too short", SETDEFAULT, b""),
    ("report", REPORT, bytes(60)),
    ("report: too short", REPORT, b""),
    ("mapping", MAPPING, bytes(64)),
    ("new SAD info", NEWSADINFO, bytes(4)),
    ("type 0x29", 0x29, b""),
    ("type 0x60", 0x60, b""),
    ("no request", GETSA, sa_id(), NO_REQUEST),
    ("control message", 1, sa_id()),
]


def attributes(data):
    """type:length of each attribute, and the value of those that say what was understood."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        value = data[4:length].hex() if kind in (IF_ID, REPLAY, LTIME, COADDR, ENCAP) else ""
        yield f"{kind}:{length}" + (f"={value}" if value and kind != LTIME else "")
        data = data[(length + 3) & ~3:]


def shown(datagram):
    while len(datagram) >= 16:
        length, kind, flags, seq, _ = struct.unpack_from("IHHII", datagram)
        body = datagram[16:length]
        line = f"type {kind:#x} length {length} flags {flags:#x} seq {seq}"
        if kind in (2, 3):
            line += f" errno {struct.unpack_from('i', body)[0]}"
        if kind in HEADERS:
            line += " attributes " + " ".join(attributes(body[HEADERS[kind]:]))
        yield line
        datagram = datagram[(length + 3) & ~3:]


def answers(sock):
    while True:
        try:
            datagram = sock.recv(65536)
        except OSError:
            return
        yield from shown(datagram)


def main():
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6)
    sock.bind((0, 0))
    sock.setblocking(False)
    for seq, (name, kind, body, *flags) in enumerate(REQUESTS, 1):
        flag = flags[0] if flags else ACK
        flag = ACK if flag == NO_REQUEST else REQUEST | flag
        print(f">>> raw {name}")
        sock.send(struct.pack("IHHII", 16 + len(body), kind, flag, seq, 0) + body)
        for line in answers(sock):
            print(line)
        print("<<< 0")


main()
