"""Of the group "e2e": many streams over as many SAs, and a stream while its SA is replaced."""
import ipaddress
import json
import os
import subprocess
import sys
import time

from measure import idle_cpu
from paths import (CORE, CORES, FAR, HERE, NEAR, OUTER, SECONDS, Path, end, policy, sa, spawn)
from rows import collect, failures, row, rows_of

STREAMS = 64
RATE = 1000  # rekeys a second
REACHED = 0.95  # of it, at least
IDLE_S = 20


def programs(build):
    return (("null", os.path.join(build, "bench", "xfrmd_null")),
            ("gcm128", os.path.join(build, "src", "daemon", "xfrmd")))


def numbered(first, index):
    return str(ipaddress.ip_address(first) + index)


class Many(Path):
    """STREAMS pairs of addresses, each with SAs and policies of its own."""

    def protect(self):
        from xfrmd import EXEC
        for net, _, here, there, *ends in self.sides():
            self.batch(net, ["ip"], [("addr", "replace", numbered(here, i) + "/32", "dev", "lo")
                                     for i in range(STREAMS)] +
                       [("route", "add", numbered(there, i), "via", ends[1], "mtu", "1400")
                        for i in range(1, STREAMS)])
            lines = []
            for i in range(STREAMS):
                reqid = str(1 + i)
                for a, b, spi in (*OUTER, 0x1000), (*OUTER[::-1], 0x2000):
                    lines.append(("xfrm", "state", "add", *sa(a, b, hex(spi + i), reqid),
                                  *self.encap))
                for way, src, dst, a, b in (("out", here, there, *ends),
                                            ("in", there, here, *ends[::-1])):
                    lines.append(("xfrm", "policy", "add",
                                  *policy(way, numbered(src, i), numbered(dst, i), a, b, reqid)))
            self.batch(net, [EXEC, "ip"], lines)

    @staticmethod
    def batch(net, program, lines):
        net.run(*program, "-batch", "-", input="\n".join(map(" ".join, lines)) + "\n", check=True)


def used(path):
    """How many of the near daemon's outbound SAs have sent something."""
    sas = path.near.ask("sa")
    sas = sas["sa"] if isinstance(sas, dict) else sas
    return sum(one["src"] == OUTER[0] and one["replay"]["seq_out"] > 0 for one in sas)


def streams(path):
    """Gb/s of all streams together; every one must have brought something."""
    tool = os.path.join(HERE, "streams.py")
    before = path.cpu_s()
    receiver = spawn(path.far, CORE["far"], sys.executable, tool, "receive", str(STREAMS),
                     str(SECONDS), stdout=subprocess.PIPE, text=True)
    receiver.stdout.readline()
    sender = spawn(path.near, CORE["near"], sys.executable, tool, "send", str(STREAMS), NEAR, FAR)
    try:
        got = json.loads(receiver.communicate(timeout=SECONDS + 30)[0])
    except (json.JSONDecodeError, subprocess.TimeoutExpired):
        return None
    finally:
        end(receiver)
        end(sender)
    gigabits = sum(got["bytes"]) * 8 / 1e9
    if not all(got["bytes"]):
        return None
    return {"gbps": gigabits / got["seconds"], "cpu_s_per_gb": (path.cpu_s() - before) / gigabits,
            "slowest_gbps": min(got["bytes"]) * 8 / 1e9 / got["seconds"]}


def many(build, say):
    paths = {name: Many(name, program) for name, program in programs(build)}
    title = f"TCP, {STREAMS} streams"
    known = {"traffic": "tcp", "sas": STREAMS, "flows": STREAMS, "policies": STREAMS}
    found = collect({name: lambda path=path: streams(path) for name, path in paths.items()}, say,
                    f"e2e {title}")
    rows = rows_of("e2e", title, found, (("gcm128", "null"),), **known)
    say(f"e2e idle daemon with {STREAMS} SAs: {IDLE_S} s")
    percent = idle_cpu([paths["gcm128"]], IDLE_S)["gcm128"]
    rows.append(row("e2e", "CPU of an idle daemon", "gcm128", "percent", [percent],
                    **{**known, "flows": 0}))
    skipped = failures(found, f"e2e {title}")
    if (count := used(paths["gcm128"])) != STREAMS:
        skipped.append((f"e2e {title}", f"FAILED: {count} of {STREAMS} SAs were used"))
    return rows, skipped


class Rekeyed(Path):
    """Its outbound SA at the near end has been replaced up to @spi."""

    spi = 0x1000
    next_spi = 0x10000


def packets(path):
    """That both daemons have encrypted or decrypted."""
    engines = [net.ask("stats")["engine"] for net in (path.near, path.far)]
    return sum(engine["out_packets"] + engine["in_packets"] for engine in engines)


def begin_rekeys(path):
    """They go on for longer than what is measured beside them."""
    from xfrmd import EXEC
    count = RATE * (SECONDS + 2)
    args = [str(time.monotonic() + 1), str(count), str(RATE), hex(path.next_spi), hex(path.spi)]
    path.spi = path.next_spi + count - 1
    path.next_spi += count
    processes = [spawn(net, CORES[0], EXEC, sys.executable, os.path.join(HERE, "rekey.py"), side,
                       *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for side, net in (("far", path.far), ("near", path.near))]
    time.sleep(1.2)
    return processes


def rate_of(processes):
    """Rekeys a second of the slower end, or RuntimeError with what was wrong."""
    rates = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"rekey.py: {err.strip()}")
        done = json.loads(out)
        rates.append(done["steps"] / done["seconds"])
        end(process)
    return min(rates)


def stream(path, rekeyed):
    """What a packet of one TCP stream costs both daemons together."""
    processes = begin_rekeys(path) if rekeyed else []
    before = path.cpu_s(), packets(path)
    answer = path.client("-C", "cubic")
    after = path.cpu_s(), packets(path)
    found = {"rekeys_per_s": rate_of(processes)} if rekeyed else {}
    if not answer or after[1] == before[1]:
        return None
    return {"ns_per_packet": 1e9 * (after[0] - before[0]) / (after[1] - before[1]),
            "gbps": answer["end"]["sum_received"]["bits_per_second"] / 1e9, **found}


def no_traffic(path):
    """What a rekey costs each daemon: a new SA, and the old one goes."""
    processes = begin_rekeys(path)
    before = path.cpu_s()
    time.sleep(SECONDS)
    after = path.cpu_s()
    return {"us_per_rekey": 1e6 * (after - before) / (SECONDS * rate_of(processes)) / 2}


def rekeys(build, say):
    daemon = dict(programs(build))["gcm128"]
    path = Rekeyed("gcm128", daemon)
    title = f"TCP, one stream, {RATE} rekeys a second"
    found = collect({"no rekeys": lambda: stream(path, False),
                     "gcm128": lambda: stream(path, True),
                     "gcm128, no traffic": lambda: no_traffic(path)}, say, f"e2e {title}")
    pairs = (("gcm128", "no rekeys"), ("gcm128, no traffic", None))
    rows = rows_of("e2e", title, found, pairs, traffic="tcp")
    skipped = failures(found, f"e2e {title}")
    for made in rows:
        if made["metric"] == "rekeys_per_s" and made["value"] < REACHED * RATE:
            skipped.append((f"e2e {title}", f"FAILED: {made['value']:.0f} were reached"))
    return rows, skipped
