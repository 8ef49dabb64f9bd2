"""Programs of tcx at devices, which tc(8) and bpftool(8) of Debian 12 do not know."""
import ctypes
import os
import struct
import threading

from xfrmd import CLONE_NEWNET, LIBC

BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
SIDES = {"ingress": 46, "egress": 47}
PROG_LOAD, PROG_GET_FD_BY_ID, INFO_BY_FD, QUERY, LINK_CREATE, LINK_BY_ID, LINK_DETACH = \
    5, 13, 15, 16, 28, 30, 34
BEFORE = 1 << 3
SCHED_CLS = 3
NEXT, PASS = -1, 0


def bpf(cmd, attr):
    """The result; what the kernel writes into @attr is in it afterwards."""
    fd = LIBC.syscall(BPF, cmd, attr, len(attr))
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"bpf({cmd})")
    return fd


def attr_of(form, *values):
    return ctypes.create_string_buffer(struct.pack(form, *values), 144)


def inside(net, function):
    """What @function() returns in the namespace."""
    result = []

    def run():
        with open(f"/run/netns/{net.name}") as ns:
            if LIBC.setns(ns.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        result.append(function())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def index(net, device):
    done = net.run("cat", f"/sys/class/net/{device}/ifindex", check=True)
    return int(done.stdout)


def program_name(number):
    fd = bpf(PROG_GET_FD_BY_ID, attr_of("I", number))
    info = ctypes.create_string_buffer(256)
    try:
        bpf(INFO_BY_FD, attr_of("IIQ", fd, len(info), ctypes.addressof(info)))
    finally:
        os.close(fd)
    return info.raw[64:80].split(b"\0")[0].decode()


def programs(net, device, side="egress"):
    """Name of the program and number of the link, in the order in which they run."""
    number = index(net, device)

    def query():
        progs, links = (ctypes.c_uint32 * 64)(), (ctypes.c_uint32 * 64)()
        attr = attr_of("IIIIQIIQQQQ", number, SIDES[side], 0, 0, ctypes.addressof(progs), 64, 0, 0,
                       ctypes.addressof(links), 0, 0)
        bpf(QUERY, attr)
        return [(progs[i], links[i]) for i in range(struct.unpack_from("I", attr, 24)[0])]
    return [(program_name(prog), link) for prog, link in inside(net, query)]


def names(net, device, side="egress"):
    return [name for name, _ in programs(net, device, side)]


def attach(net, device, verdict, before, side="egress"):
    """A program that says @verdict of each packet; the link, a descriptor."""
    code = struct.pack("=BBhi", 0xb7, 0, 0, verdict) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    code, text = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    program = bpf(PROG_LOAD, attr_of("IIQQ", SCHED_CLS, 2, ctypes.addressof(code),
                                     ctypes.addressof(text)))
    number = index(net, device)
    try:
        return inside(net, lambda: bpf(LINK_CREATE, attr_of(
            "IIIIIIQ", program, number, SIDES[side], BEFORE if before else 0, 0, 0, 0)))
    finally:
        os.close(program)


def detach(link):
    """By force, as bpftool link detach."""
    fd = bpf(LINK_BY_ID, attr_of("I", link))
    try:
        bpf(LINK_DETACH, attr_of("I", fd))
    finally:
        os.close(fd)
