#!/usr/bin/env python3
"""The systemd units: how open they are, and a tunnel between daemons with just what they give."""
import ctypes
import os
import re
import shutil
import subprocess
import sys

# With arguments of its own this file is what starts the daemon: see confined().
CONFINE = "--confine"
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38


def confine(caps, calls, argv):
    """Become argv with these capabilities and system calls, as systemd would start it."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    for cap in range(64):
        if cap not in caps and libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) and cap < 40:
            sys.exit("cannot limit capabilities")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        sys.exit("cannot set no_new_privs")
    ctx = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(KILL_PROCESS)))
    for name in calls:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and seccomp.seccomp_rule_add(ctx, ctypes.c_uint32(ALLOW), number, 0):
            sys.exit(f"cannot allow {name}")
    if seccomp.seccomp_load(ctx):
        sys.exit("cannot load the filter")
    os.execvp(argv[0], argv)


if len(sys.argv) > 1 and sys.argv[1] == CONFINE:
    confine({int(cap) for cap in sys.argv[2].split(",")}, sys.argv[3].split(","), sys.argv[4:])

import xfrmd  # noqa: E402  it reads the arguments
from xfrmd import add_sa, equal, gateways, main, skip_all, stream, wire  # noqa: E402

UNITS = "xfrmd.service", "xfrmd@.service"
ADDRS = "10.1.0.1", "10.2.0.1"
CONFIG = "[daemon]\nworkers = 2\ngroup = nogroup\n[crypto]\nthreads = 1\n"
CAPS = ("chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap "
        "linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner "
        "sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice "
        "sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap "
        "mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf "
        "checkpoint_restore").split()


def settings(unit):
    """Key and value of each line of [Service], as built."""
    with open(f"{xfrmd.BUILD}/packaging/{unit}") as f:
        text = f.read().split("[Service]\n")[1].split("[Install]")[0]
    return re.findall(r"^(\w+)=(.*)$", text, re.M)


def analyze(*args):
    return subprocess.run(["systemd-analyze", *args], check=True, capture_output=True,
                          text=True).stdout


def members(name, seen):
    """The system calls of a set like @network-io."""
    if not name.startswith("@"):
        return {name}
    if name not in seen:
        words = [line.strip() for line in analyze("syscall-filter", name).splitlines()[1:]]
        words = [word for word in words if word and not word.startswith("#")]
        seen[name] = set().union(*(members(word, seen) for word in words))
    return seen[name]


def allowed_calls(unit):
    calls, seen = members("@default", {}), {}
    calls |= {"execve"}
    for key, value in settings(unit):
        if key != "SystemCallFilter":
            continue
        named = set().union(*(members(word, seen) for word in value.lstrip("~").split()))
        calls = calls - named if value.startswith("~") else calls | named
    return calls


def allowed_caps(unit):
    words = " ".join(v for k, v in settings(unit) if k == "CapabilityBoundingSet").split()
    return {CAPS.index(word.removeprefix("CAP_").lower()) for word in words}


def start_confined(net, unit, config):
    """The daemon, with what the unit leaves it."""
    caps = ",".join(map(str, allowed_caps(unit)))
    launcher = ["python3", os.path.abspath(__file__), CONFINE, caps, ",".join(allowed_calls(unit))]
    plain = net.argv
    net.argv = lambda *args: plain(*(launcher if args[0] == xfrmd.DAEMON else ()), *args)
    net.start_with(config)


def the_units_are_closed(_netns):
    for unit in UNITS:
        path = f"{xfrmd.BUILD}/packaging/{unit}"
        copy = f"/tmp/xfrmd-units-{os.getpid()}{unit.replace('@', '@x')}"
        shutil.copy(path, copy)
        try:
            text = analyze("security", "--offline=true", copy)
        finally:
            os.unlink(copy)
        level = float(re.search(r"exposure level for \S+: (\d+\.\d)", text)[1])
        print(f"# {unit}: {level}")
        equal(level <= 3.2, True)


def a_tunnel_with_what_each_unit_leaves(netns):
    for unit in UNITS:
        near, far = wire(netns)
        for net in near, far:
            start_confined(net, unit, CONFIG)
        gateways(near, far, ADDRS)
        stream(near, far, ADDRS, 2 << 20)
        equal(add_sa(near, 0x7777).returncode, 0)
        # All that the daemon could want was there.
        status = near.ask("status")["capture"]
        equal([status[key] for key in ("nftables", "backstop", "tun_marks", "tun_steering")],
              [True] * 4)
        with open(f"/proc/{near.daemon.pid}/status") as f:
            equal(re.search(r"^CapBnd:\s*(\S+)", f.read(), re.M)[1].strip("0"), "")
        for net in near, far:
            equal(net.stop(), 0)


if not shutil.which("systemd-analyze"):
    skip_all("there is no systemd-analyze")
main([the_units_are_closed, a_tunnel_with_what_each_unit_leaves])
