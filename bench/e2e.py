"""The group "e2e": real daemons, TCP, UDP and ping from one network namespace to another.

Each path is a pair of namespaces, all there at the same time; slices of the paths take turns. The
near gateway and its iperf3 run on the first core, the far ones on the last. The inner MTU is 1400.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "netns"))

PAIRS = int(os.environ.get("BENCH_PAIRS", "9"))
SECONDS = int(os.environ.get("BENCH_SLICE", "2"))  # iperf3 takes 0.5 for "for ever"
LOSS = 0.1  # per cent, at most
STEPS = 6  # of a search for the highest rate
NEAR, FAR = "198.51.100.1", "203.0.113.1"
KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"
TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
CORE = {"near": CORES[0], "far": CORES[-1]}


class Path:
    """Two namespaces and what carries packets between them. @daemon None: plain veth."""

    def __init__(self, name, wire, daemon, encap=(), segmented=False, counted=None):
        self.name = name
        self.counted = counted
        self.near, self.far = wire(self.make_netns)
        for net, core in (self.near, CORE["near"]), (self.far, CORE["far"]):
            if segmented:
                net.run("ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off",
                        "tx-udp-segmentation", "off", check=True)
            if daemon:
                start(net, daemon, core, counted)
        self.protect(self.near, NEAR, FAR, ("192.0.2.1", "192.0.2.2"), daemon, encap)
        self.protect(self.far, FAR, NEAR, ("192.0.2.2", "192.0.2.1"), daemon, encap)
        self.serve()

    def serve(self):
        self.server = subprocess.Popen(self.far.argv("taskset", "-c", str(CORE["far"]), "iperf3",
                                                     "-s"), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    @staticmethod
    def make_netns():
        from xfrmd import Netns
        net = Netns()
        made.append(net)
        return net

    @staticmethod
    def protect(net, here, there, ends, daemon, encap):
        net.run("ip", "addr", "add", f"{here}/32", "dev", "lo", check=True)
        net.run("ip", "route", "add", there, "via", ends[1], "src", here, "mtu", "1400",
                check=True)
        if not daemon:
            return
        for a, b, spi in ("192.0.2.1", "192.0.2.2", "0x1000"), ("192.0.2.2", "192.0.2.1", "0x2000"):
            net.xfrm("state", "add", "src", a, "dst", b, "proto", "esp", "spi", spi, "reqid", "1",
                     "mode", "tunnel", "replay-window", "64", "aead", "rfc4106(gcm(aes))", KEY,
                     "128", *encap, check=True)
        for way, src, dst, a, b in ("out", here, there, *ends), ("in", there, here, *ends[::-1]):
            net.xfrm("policy", "add", "src", src, "dst", dst, "dir", way, "tmpl", "src", a, "dst",
                     b, "proto", "esp", "reqid", "1", "mode", "tunnel", check=True)

    def client(self, *args, seconds=SECONDS):
        """iperf3's answer; None: it failed."""
        argv = self.near.argv("taskset", "-c", str(CORE["near"]), "iperf3", "-c", FAR, "-J", "-t",
                              str(seconds), *args)
        try:
            done = subprocess.run(argv, text=True, capture_output=True, check=True,
                                  timeout=seconds + 15)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        return json.loads(done.stdout)

    def cpu_s(self):
        """CPU seconds of both daemons."""
        total = 0
        for net in self.near, self.far:
            if net.daemon:
                with open(f"/proc/{net.daemon.pid}/stat", encoding="ascii") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / TICKS
        return total

    def peak_mb(self):
        """Of the near daemon."""
        with open(f"/proc/{self.near.daemon.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmHWM:\s*(\d+)", file.read())[1]) / 1024

    def pings(self, count, interval):
        argv = self.near.argv("taskset", "-c", str(CORE["near"]), "ping", "-n", "-c", str(count),
                              "-i", str(interval), "-W", "1", FAR)
        done = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=60)
        return [1000 * float(t) for t in re.findall(r"time=([\d.]+) ms", done.stdout)]

    def close(self):
        self.server.kill()
        self.server.wait()


class Pipe(Path):
    """Two namespaces with a TUN each, and bench/tun_pipe between them."""

    def __init__(self, name, program):
        self.name = name
        self.near, self.far = self.make_netns(), self.make_netns()
        self.program = subprocess.Popen([program, self.near.name, str(CORE["near"]), self.far.name,
                                         str(CORE["far"])], stdout=subprocess.PIPE, text=True)
        if self.program.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{program} did not start")
        for net, here, there in (self.near, NEAR, FAR), (self.far, FAR, NEAR):
            net.run("ip", "addr", "add", f"{here}/32", "dev", "lo", check=True)
            net.run("ip", "link", "set", "pipe0", "mtu", "1500", "txqueuelen", "1000", "up",
                    check=True)
            net.run("ip", "route", "add", there, "dev", "pipe0", "src", here, "mtu", "1400",
                    check=True)
        self.serve()

    def close(self):
        super().close()
        self.program.kill()
        self.program.wait()


class Counted:
    """A file in which a daemon's allocations on worker threads are counted."""

    def __init__(self, library):
        self.library = library
        self.file = tempfile.NamedTemporaryFile()
        self.file.write(bytes(8))
        self.file.flush()

    def env(self):
        return {**os.environ, "LD_PRELOAD": self.library, "COUNT_MALLOC": self.file.name}

    def count(self):
        with open(self.file.name, "rb") as file:
            return int.from_bytes(file.read(8), sys.byteorder)


made = []


def start(net, daemon, core, counted=None):
    """As Netns.start(), on one core."""
    net.log = open(f"/tmp/{net.name}.log", "a+", encoding="utf-8")
    net.daemon = subprocess.Popen(net.argv("taskset", "-c", str(core), daemon), stderr=net.log,
                                  stdout=net.log, env=counted.env() if counted else None)
    deadline = time.monotonic() + 20
    while "ready: network namespace" not in net.text():
        if net.daemon.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{daemon} did not start: {net.text()}")
        time.sleep(0.05)


# --- What is measured: each takes a path and returns {metric: value}, or None: it failed ---

def tcp(path, reverse=False, control="cubic"):
    before = path.cpu_s()
    answer = path.client("-C", control, *(["-R"] if reverse else []))
    if not answer:
        return None
    got = answer["end"]["sum_received"]
    gigabits = got["bytes"] * 8 / 1e9
    found = {"gbps": got["bits_per_second"] / 1e9}
    if path.near.daemon and gigabits:
        found["cpu_s_per_gb"] = (path.cpu_s() - before) / gigabits
    return found


def arrived(path, size, mbps):
    """Gb/s of payload that arrived when @mbps were asked for; 0: too much was lost."""
    answer = path.client("-u", "-b", f"{mbps}M", "-l", str(size - 28), "-w", "4M", seconds=1)
    if not answer or answer["end"]["sum"]["lost_percent"] > LOSS:
        return 0
    got = answer["end"].get("sum_received", answer["end"]["sum"])
    return got["bytes"] * 8 / got["seconds"] / 1e9 if got["seconds"] else 0


def udp(size):
    """The highest rate with at most LOSS, by bisection of the logarithm of what is asked for. The
    sender may not get there: what counts is what arrived. @size is of the inner IP packets."""

    def measure(path):
        low, high = (20, 20000) if size > 500 else (5, 2000)
        best = 0
        for _ in range(STEPS):
            middle = (low * high) ** 0.5
            gbps = arrived(path, size, round(middle))
            best = max(best, gbps)
            if gbps:
                low = middle
            else:
                high = middle
        return {"gbps": best} if best else None

    return measure


def idle(path):
    times = path.pings(100, 0.005)
    return {"ping_us": statistics.median(times)} if times else None


def loaded(path):
    argv = path.near.argv("taskset", "-c", str(CORE["near"]), "iperf3", "-c", FAR, "-C", "cubic",
                          "-t", "3")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
        time.sleep(0.5)
        times = sorted(path.pings(200, 0.01))
        load.wait()
    if len(times) < 100:
        return None
    return {"ping_us": statistics.median(times), "ping_p99_us": times[len(times) * 99 // 100]}


# --- Slices and rows ---

BETTER = {"gbps": "higher"}


def quartiles(values):
    return statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3


def collect(paths, measure, say, title):
    """{path: {metric: values}}, slices of the paths in turn."""
    found = {path.name: {} for path in paths}
    for index in range(PAIRS):
        say(f"e2e {title}: {index + 1}/{PAIRS}")
        for path in paths:
            for metric, value in (measure(path) or {}).items():
                found[path.name].setdefault(metric, []).append(value)
    return found


def row(case, name, metric, values, base, bases, **more):
    q1, median, q3 = quartiles(values)
    made_row = {"bench": "e2e", "case": case, "suite": name, "plaintext": 1404, "sas": 1,
                "flows": 1, "policies": 1, "family": 4, "metric": metric,
                "better": BETTER.get(metric, "lower"), "value": median, "q1": q1, "q3": q3,
                "base": base, "base_value": None, "ratio": None, "pairs": len(values), **more}
    if bases:
        made_row["base_q1"], base_value, made_row["base_q3"] = quartiles(bases)
        made_row.update(base_value=base_value, ratio=median / base_value if base_value else None)
    return made_row


def rows_of(case, found, pairs, **more):
    """A row for each metric of each (path, base) of @pairs."""
    rows = []
    for name, base in pairs:
        for metric, values in found[name].items():
            rows.append(row(case, name, metric, values, base, found[base].get(metric), **more))
    return rows


def counters(path):
    """What must be 0 in all that was measured: no row when the daemon does not answer."""
    rows = []
    for end, net in ("near", path.near), ("far", path.far):
        engine = net.ask("stats")["engine"]
        for name in "lin_copies", "payload_bytes_copied":
            rows.append(row(f"{name}, {end}", path.name, "count", [engine[name]], None, None))
    return rows


PLAIN = (("gcm128", "null"), ("null", "tun-pipe"), ("gcm128", "tun-pipe"), ("gcm128", "veth"),
         ("null", "veth"), ("tun-pipe", "veth"), ("gcm128-native", "veth"))


def cases():
    """(title, measure, paths and their bases, what else the rows say)."""
    nic = (("gcm128-nic", "null-nic"),)
    yield "TCP, one stream", tcp, PLAIN, {"traffic": "tcp", "dir": "out"}
    yield ("TCP, one stream, back", lambda p: tcp(p, reverse=True), PLAIN,
           {"traffic": "tcp", "dir": "in"})
    yield "TCP, one stream, NIC-like", tcp, nic, {"traffic": "tcp"}
    yield ("TCP, one stream, BBR", lambda p: tcp(p, control="bbr"), PLAIN[:1],
           {"traffic": "tcp bbr"})
    yield "ping, idle", idle, PLAIN[:4], {"traffic": "ping"}
    yield "ping, under one TCP stream", loaded, PLAIN[:4], {"traffic": "ping + tcp"}
    yield "UDP 1400, at most 0.1 % lost", udp(1400), PLAIN[:4], {"traffic": "udp"}
    yield "UDP 100, at most 0.1 % lost", udp(100), PLAIN[:4], {"traffic": "udp", "plaintext": 104}


def make_paths(build):
    from xfrmd import wire
    daemon = os.path.join(build, "src", "daemon", "xfrmd")
    null = os.path.join(build, "bench", "xfrmd_null")
    encap = ("encap", "espinudp", "4500", "4500", "0.0.0.0")
    return {path.name: path for path in (
        Path("veth", wire, None), Pipe("tun-pipe", os.path.join(build, "bench", "tun_pipe")),
        Path("null", wire, null, encap),
        Path("gcm128", wire, daemon, encap), Path("gcm128-native", wire, daemon),
        Path("null-nic", wire, null, encap, segmented=True),
        Path("gcm128-nic", wire, daemon, encap, segmented=True))}


def all_zero(build, say):
    """A minute of traffic both ways, after which what must never happen has been counted."""
    from xfrmd import wire
    library = os.path.join(build, "bench", "libcount_malloc.so")
    if not os.path.exists(library):
        return [], [("e2e allocations", f"not run, there is no {library}")]
    counted = Counted(library)
    path = Path("gcm128", wire, os.path.join(build, "src", "daemon", "xfrmd"),
                ("encap", "espinudp", "4500", "4500", "0.0.0.0"), counted=counted)
    quarter = 15 if PAIRS >= 9 else SECONDS
    try:
        path.client("-C", "cubic", seconds=1)
        before = counted.count()
        for args in (["-C", "cubic"], ["-C", "cubic", "-R"], ["-u", "-b", "2G", "-l", "1372"],
                     ["-u", "-b", "2G", "-l", "1372", "-R"]):
            say(f"e2e zero copies and allocations: {' '.join(args)}")
            if not path.client(*args, seconds=quarter):
                return [], [("e2e zero", f"FAILED: iperf3 {' '.join(args)}")]
        rows = counters(path)
        rows.append(row("allocations on worker threads, after start", "gcm128", "count",
                        [counted.count() - before], None, None))
    finally:
        path.close()
    wrong = [f"{r['case']} = {r['value']}" for r in rows if r["value"]]
    return rows, [("e2e zero", f"FAILED: {what}") for what in wrong]


def measure_all(paths, say):
    rows, skipped = [], []
    for title, measure, pairs, more in cases():
        names = dict.fromkeys(name for pair in pairs for name in pair)
        found = collect([paths[name] for name in names], measure, say, title)
        rows += rows_of(title, found, pairs, **more)
        skipped += [(f"e2e {title}", f"{name}: no slice worked")
                    for name, values in found.items() if not values]
    for name in "gcm128", "null":
        rows.append(row("peak RSS, near", name, "mb", [paths[name].peak_mb()], None, None))
    return rows, skipped


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    if os.geteuid() != 0:
        return [], [("e2e", "not run, it needs root")]
    if len(CORES) < 2:
        return [], [("e2e", "not run, it needs two cores")]
    sys.argv[1:2] = [build]  # where the tests' module looks for programs
    paths = {}
    try:
        rows, skipped = all_zero(build, say)
        paths = make_paths(build)
        more, why = measure_all(paths, say)
        return rows + more, skipped + why
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return [], [("e2e", f"FAILED: {error}")]
    finally:
        for path in paths.values():
            path.close()
        for net in made:
            net.close()
