"""The group "e2e": real daemons, TCP, UDP and ping from one network namespace to another.

Slices of the paths take turns (paths.py). The daemons "null" are xfrmd with a cipher that does
nothing: what is left without the cipher. "tun-pipe" and "udp-relay" are programs that only carry
packets from one TUN to the other, of large packets at once and packet by packet.
"""
import os
import subprocess
import sys

import load
import measure
from paths import CORES, PAIRS, SECONDS, Counted, Path, Pipe, Relay, close_all
from rows import collect, failures, row, rows_of

IDLE_S = 20

PLAIN = (("gcm128", "null"), ("null", "tun-pipe"), ("gcm128", "tun-pipe"), ("gcm128", "veth"),
         ("null", "veth"), ("tun-pipe", "veth"), ("gcm128-native", "veth"))
PING = (("gcm128", "udp-relay"), ("null", "udp-relay"), ("udp-relay", "veth"), ("gcm128", "veth"))
NIC = (("gcm128-nic", "null-nic"),)


def cases():
    """(title, function of a path, paths and their bases, what else the rows say)."""
    yield "TCP, one stream", measure.tcp, PLAIN, {"traffic": "tcp", "dir": "out"}
    yield ("TCP, one stream, back", lambda p: measure.tcp(p, reverse=True), PLAIN,
           {"traffic": "tcp", "dir": "in"})
    yield "TCP, one stream, NIC-like", measure.tcp, NIC, {"traffic": "tcp"}
    yield ("TCP, one stream, BBR", lambda p: measure.tcp(p, control="bbr"), PLAIN[:1],
           {"traffic": "tcp bbr"})
    yield "ping, idle", measure.idle, PING, {"traffic": "ping"}
    yield "ping, under one TCP stream", measure.loaded, PLAIN[:4], {"traffic": "ping + tcp"}
    yield ("UDP 1400, at most 0.1 % lost", measure.udp(1400, 2000), PLAIN[:4], {"traffic": "udp"})
    yield ("UDP 100, at most 0.1 % lost", measure.udp(100, 100), PLAIN[:4],
           {"traffic": "udp", "plaintext": 104})


def daemon_of(build):
    return os.path.join(build, "src", "daemon", "xfrmd")


def null_of(build):
    return os.path.join(build, "bench", "xfrmd_null")


def make_paths(build):
    daemon, null = daemon_of(build), null_of(build)
    return {path.name: path for path in (
        Path("veth", None), Pipe("tun-pipe", build), Relay("udp-relay", build),
        Path("null", null), Path("gcm128", daemon),
        Path("gcm128-native", daemon, encap=()),
        Path("null-nic", null, segmented=True), Path("gcm128-nic", daemon, segmented=True))}


def counters(path):
    """What must be 0 in all that was measured: no row when the daemon does not answer."""
    rows = []
    for end, net in ("near", path.near), ("far", path.far):
        engine = net.ask("stats")["engine"]
        for name in "lin_copies", "payload_bytes_copied":
            rows.append(row("e2e", f"{name}, {end}", path.name, "count", [engine[name]]))
    return rows


def all_zero(build, say):
    """A minute of traffic both ways, after which what must never happen has been counted."""
    library = os.path.join(build, "bench", "libcount_malloc.so")
    if not os.path.exists(library):
        return [], [("e2e allocations", f"not run, there is no {library}")]
    counted = Counted(library)
    path = Path("gcm128", daemon_of(build), counted=counted)
    quarter = 15 if PAIRS >= 9 else SECONDS
    path.client("-C", "cubic", seconds=1)
    before = counted.count()
    for args in (["-C", "cubic"], ["-C", "cubic", "-R"], ["-u", "-b", "2G", "-l", "1372"],
                 ["-u", "-b", "2G", "-l", "1372", "-R"]):
        say(f"e2e zero copies and allocations: {' '.join(args)}")
        if not path.client(*args, seconds=quarter):
            return [], [("e2e zero", f"FAILED: iperf3 {' '.join(args)}")]
    rows = counters(path)
    rows.append(row("e2e", "allocations on worker threads, after start", "gcm128", "count",
                    [counted.count() - before]))
    close_all()
    wrong = [f"{r['case']} = {r['value']}" for r in rows if r["value"]]
    return rows, [("e2e zero", f"FAILED: {what}") for what in wrong]


def quiet(paths, say):
    """What daemons with SAs cost while nothing happens."""
    say(f"e2e idle daemons: {IDLE_S} s")
    daemons = [path for path in paths.values() if path.name.startswith("gcm128")]
    found = measure.idle_cpu(daemons, IDLE_S)
    return [row("e2e", "CPU of an idle daemon", name, "percent", [value])
            for name, value in found.items()]


def measure_all(paths, say):
    rows, skipped = quiet(paths, say), []
    for title, func, pairs, more in cases():
        names = dict.fromkeys(name for pair in pairs for name in pair)
        found = collect({name: lambda path=paths[name]: func(path) for name in names}, say,
                        f"e2e {title}")
        rows += rows_of("e2e", title, found, pairs, **more)
        skipped += failures(found, f"e2e {title}")
    for name in "gcm128", "null":
        rows.append(row("e2e", "peak RSS", name, "mb", [paths[name].peak_mb()]))
    return rows, skipped


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    if os.geteuid() != 0:
        return [], [("e2e", "not run, it needs root")]
    if len(CORES) < 2:
        return [], [("e2e", "not run, it needs two cores")]
    sys.argv[1:2] = [build]  # where the tests' module looks for programs
    rows, skipped = [], []
    parts = (lambda: all_zero(build, say), lambda: measure_all(make_paths(build), say),
             lambda: load.many(build, say), lambda: load.rekeys(build, say))
    for part in parts:
        try:
            more, why = part()
            rows += more
            skipped += why
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            skipped.append(("e2e", f"FAILED: {error}"))
        finally:
            close_all()
    return rows, skipped
