#!/usr/bin/env python3
"""A program under xfrm-exec: shim.py names the case. Exit status 0 when all is as in the kernel."""
import array
import errno
import os
import select
import socket
import struct
import sys
import tempfile

NETLINK_XFRM = 6
SOL_NETLINK = 270
ADD_MEMBERSHIP, DROP_MEMBERSHIP, CAP_ACK, EXT_ACK = 1, 2, 10, 11
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR = 2
XFRM_MSG_GETSA, XFRM_MSG_FLUSHSA, XFRM_MSG_GETSADINFO = 0x12, 0x1c, 0x23
UDP_ENCAP, IP_XFRM_POLICY, IPV6_XFRM_POLICY = 100, 17, 35
HDR = struct.Struct("IHHII")
MAGIC, VERSION = 0x5866726d, 1


def netlink(kind=socket.SOCK_RAW):
    return socket.socket(socket.AF_NETLINK, kind, NETLINK_XFRM)


def message(kind, flags, body=b"", seq=1):
    return HDR.pack(HDR.size + len(body), kind, flags | NLM_F_REQUEST, seq, 0) + body


def info_request(seq=1):
    return message(XFRM_MSG_GETSADINFO, 0, struct.pack("I", 0), seq)


def same(got, want):
    if got != want:
        raise SystemExit(f"got {got!r}, want {want!r}")


def fails(code, call, *args):
    try:
        call(*args)
    except OSError as error:
        same(errno.errorcode[error.errno], errno.errorcode[code])
        return
    raise SystemExit(f"no error, want {errno.errorcode[code]}")


def at_once(sock):
    """The one answer that is in the queue already."""
    return sock.recv(65536, socket.MSG_DONTWAIT)


def seq_of(datagram):
    return HDR.unpack_from(datagram)[3]


def no_daemon():
    fails(errno.EPROTONOSUPPORT, netlink)
    fails(errno.ESOCKTNOSUPPORT, netlink, socket.SOCK_STREAM)


def synchronous():
    sock = netlink()
    fd = sock.fileno()
    ways = [
        sock.send,
        lambda data: sock.sendto(data, (0, 0)),
        lambda data: sock.sendmsg([data[:7], data[7:]]),
        lambda data: os.write(fd, data),
        lambda data: os.writev(fd, [data[:1], data[1:16], data[16:]]),
    ]
    for round_ in range(200):
        for number, way in enumerate(ways):
            seq = round_ * len(ways) + number
            request = info_request(seq)
            same(way(request), len(request))
            same(seq_of(at_once(sock)), seq)
            fails(errno.EAGAIN, at_once, sock)
    # An answer and its acknowledgement, both before send() returns.
    sock.send(message(XFRM_MSG_GETSADINFO, NLM_F_ACK, struct.pack("I", 0)))
    same(len(at_once(sock)) > 0, True)
    same(HDR.unpack_from(at_once(sock))[1], NLMSG_ERROR)
    # Somebody else's socket is out of reach.
    fails(errno.ECONNREFUSED, sock.sendto, info_request(), (1, 0))
    fails(errno.EMSGSIZE, sock.send, bytes(300000))


def portids():
    first, second, third = netlink(), netlink(), netlink()
    same(first.getsockname(), (0, 0))
    first.bind((0, 0))
    same(first.getsockname(), (os.getpid(), 0))
    second.bind((0, 5))
    same(second.getsockname()[0] >= 1 << 31, True)
    same(second.getsockname()[1], 5)
    fails(errno.EADDRINUSE, third.bind, (os.getpid(), 0))
    third.bind((4711, 0))
    same(third.getsockname(), (4711, 0))
    fails(errno.EINVAL, third.bind, (4712, 0))
    third.bind((0, 3))
    same(third.getsockname(), (4711, 3))
    # Bound by sending; the answer carries the port id.
    fourth = netlink()
    fourth.send(info_request())
    pid = fourth.getsockname()[0]
    same(pid >= 1 << 31, True)
    same(HDR.unpack_from(at_once(fourth))[4], pid)
    # The number is free again when its socket is closed.
    third.close()
    fifth = netlink()
    for _ in range(100):
        try:
            fifth.bind((4711, 0))
            break
        except OSError:
            select.select([], [], [], 0.02)
    same(fifth.getsockname()[0], 4711)


def descriptors():
    sock = netlink(socket.SOCK_RAW)
    copy = socket.socket(fileno=os.dup(sock.fileno()))
    same(copy.family, socket.AF_NETLINK)
    copy.send(info_request(1))
    same(seq_of(at_once(sock)), 1)
    # A child shares it, and answers do not get mixed up.
    child = os.fork()
    if child == 0:
        for _ in range(50):
            sock.send(info_request(2))
        os._exit(0)
    same(os.waitpid(child, 0)[1], 0)
    for _ in range(50):
        same(seq_of(at_once(sock)), 2)
    # Behind our back the number becomes a file: what is written goes there.
    fd = sock.detach()
    with tempfile.TemporaryFile() as file:
        os.closerange(fd, fd + 1)
        other = os.dup(file.fileno())
        same(other, fd)
        os.write(other, b"plain")
        same(os.pread(other, 100, 0), b"plain")
        os.close(other)
    copy.send(info_request(3))
    same(seq_of(at_once(copy)), 3)
    # dup2() over it, and away.
    third = netlink()
    os.dup2(copy.fileno(), third.fileno())
    third.send(info_request(4))
    same(seq_of(at_once(copy)), 4)
    fourth = netlink(socket.SOCK_RAW | socket.SOCK_NONBLOCK)
    same(os.get_inheritable(fourth.fileno()), False)
    fails(errno.EAGAIN, fourth.recv, 1)


def options():
    sock = netlink(socket.SOCK_DGRAM)
    same(sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN), socket.AF_NETLINK)
    same(sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), socket.SOCK_DGRAM)
    same(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL), NETLINK_XFRM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
    sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, 1)
    sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, 5)
    same(sock.getsockname()[1], 0x11)
    sock.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, 1)
    same(sock.getsockname()[1], 0x10)
    fails(errno.EINVAL, sock.setsockopt, SOL_NETLINK, ADD_MEMBERSHIP, 0)
    fails(errno.EINVAL, sock.setsockopt, SOL_NETLINK, ADD_MEMBERSHIP, 33)
    fails(errno.ENOPROTOOPT, sock.setsockopt, SOL_NETLINK, 99, 1)
    # An error echoes the request, unless it is to be capped.
    bad = message(0x7f, NLM_F_ACK, bytes(64))
    sock.send(bad)
    plain = len(at_once(sock))
    sock.setsockopt(SOL_NETLINK, CAP_ACK, 1)
    same(sock.getsockopt(SOL_NETLINK, CAP_ACK), 1)
    same(sock.getsockopt(SOL_NETLINK, EXT_ACK), 0)
    sock.send(bad)
    same(len(at_once(sock)) < plain, True)


def overflow():
    listener = netlink()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind((0, 0xffffffff))
    sender = netlink()
    spis = range(0x1000, 0x1000 + 400)
    for spi in spis:
        sender.send(new_sa(spi))
        same(struct.unpack_from("i", at_once(sender), HDR.size)[0], 0)
    got, lost = 0, 0
    listener.setblocking(False)
    while True:
        try:
            same(len(listener.recv(65536)) > 0, True)
            got += 1
        except BlockingIOError:
            break
        except OSError as error:
            same(error.errno, errno.ENOBUFS)
            lost += 1
    same(got > 0, True)
    same(got < len(spis), True)
    # It hears of the loss with the next message at the latest, and goes on.
    sender.send(message(XFRM_MSG_FLUSHSA, NLM_F_ACK, struct.pack("B", 0)))
    if not lost:
        fails(errno.ENOBUFS, listener.recv, 65536, socket.MSG_PEEK)
    same(HDR.unpack_from(listener.recv(65536))[1], XFRM_MSG_FLUSHSA)


def new_sa(spi):
    """struct xfrm_usersa_info and an AEAD."""
    address = lambda last: bytes([192, 0, 2, last]) + bytes(12)
    selector = bytes(56)
    ident = address(2) + struct.pack(">I", spi) + bytes([50]) + bytes(3)
    limits = struct.pack("8Q", *[(1 << 64) - 1] * 4, 0, 0, 0, 0)
    info = (selector + ident + address(1) + limits + bytes(32) + bytes(12)
            + struct.pack("IIHBBB", 0, 1, socket.AF_INET, 1, 0, 0) + bytes(7))
    key = bytes(range(20))
    alg = b"rfc4106(gcm(aes))".ljust(64, b"\0") + struct.pack("II", 160, 128) + key
    attribute = struct.pack("HH", 4 + len(alg), 18) + alg
    return message(0x10, NLM_F_ACK, info + attribute)


def userpolicy(action=0, direction=1):
    """struct xfrm_userpolicy_info; action and direction stand near its end."""
    head = bytes(56) + bytes(64) + bytes(32) + struct.pack("II", 0, 0)
    return head + struct.pack("BBBB", direction, action, 0, 0) + bytes(4)


def bypass(mark):
    mark = int(mark, 0)
    for family, level, option in ((socket.AF_INET, socket.IPPROTO_IP, IP_XFRM_POLICY),
                                  (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_XFRM_POLICY)):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x42)
        udp.setsockopt(level, option, userpolicy(direction=0))
        udp.setsockopt(level, option, userpolicy(direction=1))
        same(udp.getsockopt(socket.SOL_SOCKET, socket.SO_MARK), mark | 0x42)
        # A mark that the program sets later does not take the bypass away.
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x43)
        same(udp.getsockopt(socket.SOL_SOCKET, socket.SO_MARK), mark | 0x43)
        fails(errno.EINVAL, udp.setsockopt, level, option, bytes(10))
        fails(errno.EINVAL, udp.setsockopt, level, option, userpolicy(direction=7))
        fails(errno.EOPNOTSUPP, udp.setsockopt, level, option, userpolicy(action=1))
        fails(errno.ENOPROTOOPT, udp.setsockopt, socket.IPPROTO_UDP, UDP_ENCAP, 2)
        udp.setsockopt(level, option, None, 0)
        same(udp.getsockopt(socket.SOL_SOCKET, socket.SO_MARK), 0x43)


def garbage():
    sock = netlink()
    sock.setblocking(False)
    sock.send(b"")
    sock.send(b"x")
    sock.send(bytes(15))
    sock.send(os.urandom(4096))
    sock.send(HDR.pack(0xffffffff, XFRM_MSG_GETSA, 1, 1, 0))
    while True:
        try:
            sock.recv(65536)
        except BlockingIOError:
            break
    sock.send(info_request(9))
    same(seq_of(at_once(sock)), 9)


def dump_and_wait():
    sock = netlink()
    sock.send(message(XFRM_MSG_GETSA, NLM_F_DUMP))
    sock.recv(65536)
    print("dumping", flush=True)
    sys.stdin.read()
    select.select([], [], [], 60)


def survivor():
    sock = netlink()
    sock.send(info_request())
    at_once(sock)
    print("open", flush=True)
    sys.stdin.readline()
    try:
        sock.send(info_request())
    except OSError as error:
        print(errno.errorcode[error.errno])


def hello(path, descriptors_, data):
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    conn.connect(path)
    fds = array.array("i", [d.fileno() for d in descriptors_])
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
    conn.sendmsg([data], ancillary)
    return struct.unpack("IHHiI", conn.recv(16))[3]


OPEN_HELLO = struct.pack("IHH", MAGIC, VERSION, 1)


def hello_without_proof(path):
    _, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    same(hello(path, [end], OPEN_HELLO), -errno.EPROTO)


def hello_with_plain_socket(path):
    _, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    same(hello(path, [end, tcp], OPEN_HELLO), -errno.EPERM)


def hello_of_garbage(path):
    same(hello(path, [], b"garbage!"), -errno.EPROTO)


def liar():
    """A daemon that shows another namespace than ours: no socket for it."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen()
        child = os.fork()
        if child == 0:
            conn, _ = listener.accept()
            conn.recv(64)
            shown = os.open("/proc/self/ns/uts", os.O_RDONLY)
            conn.sendmsg([struct.pack("IHHiI", MAGIC, VERSION, 0, 0, 1)],
                         [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [shown]))])
            os._exit(0)
        os.environ["XFRMD_SOCKET"] = path
        fails(errno.EPROTONOSUPPORT, netlink)
        same(os.waitpid(child, 0)[1], 0)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
