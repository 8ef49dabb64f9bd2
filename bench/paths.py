"""What traffic is sent through: pairs of network namespaces with something between them.

A path is a near and a far end, with a program at each that runs on a core of its own: the near
one and its iperf3 on the first core, the far ones on the last. All paths are there at the same
time. The inner MTU is 1400. What is made here is noted, and cleared away by close_all().
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "netns"))

PAIRS = int(os.environ.get("BENCH_PAIRS", "9"))
SECONDS = int(os.environ.get("BENCH_SLICE", "2"))  # iperf3 takes 0.5 for "for ever"
NEAR, FAR = "198.51.100.1", "203.0.113.1"
KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"
ENCAP = ("encap", "espinudp", "4500", "4500", "0.0.0.0")
OUTER = ("192.0.2.1", "192.0.2.2")
CORES = sorted(os.sched_getaffinity(0))
CORE = {"near": CORES[0], "far": CORES[-1]}

made = []  # namespaces
running = []  # processes


def make_netns():
    from xfrmd import Netns
    net = Netns()
    made.append(net)
    return net


def spawn(net, core, *args, **options):
    """A program in @net on @core; it ends with close_all() at the latest."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    process = subprocess.Popen(net.argv("taskset", "-c", str(core), *args), **options)
    running.append(process)
    return process


def end(process):
    """Some clean up when they are asked to go."""
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process in running:
        running.remove(process)


def close_all():
    """Whoever wants us to end must wait for this."""
    before = {number: signal.signal(number, signal.SIG_IGN)
              for number in (signal.SIGINT, signal.SIGTERM)}
    for process in running:
        process.terminate()
    for process in list(running):
        end(process)
    while made:
        made.pop().close()
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
        if name.startswith(f"xfrmd-t{os.getpid()}-"):  # we were ended while it was made
            subprocess.run(["ip", "netns", "del", name], check=False)
    for number, handler in before.items():
        signal.signal(number, handler)


def cpu_s(pid):
    """CPU seconds of a process, to the nanosecond (see clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


class Ends:
    """Two namespaces, an iperf3 server in the far one, and @programs, whose CPU time counts."""

    def __init__(self, name, near, far):
        self.name = name
        self.near, self.far = near, far
        self.programs = []
        self.server = None

    def sides(self):
        """(namespace, core, its inner address, the other one's, its outer address, the other's)"""
        return ((self.near, CORE["near"], NEAR, FAR, *OUTER),
                (self.far, CORE["far"], FAR, NEAR, *OUTER[::-1]))

    def serve(self):
        self.server = spawn(self.far, CORE["far"], "iperf3", "-s")
        time.sleep(0.3)

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
        """CPU seconds of the programs at both ends."""
        return sum(cpu_s(program.pid) for program in self.programs)

    def pings(self, count, interval):
        argv = self.near.argv("taskset", "-c", str(CORE["near"]), "ping", "-n", "-c", str(count),
                              "-i", str(interval), "-W", "1", FAR)
        done = subprocess.run(argv, text=True, capture_output=True, check=False, timeout=60)
        return [1000 * float(t) for t in re.findall(r"time=([\d.]+) ms", done.stdout)]

    def reaches(self, seconds=10):
        """Wait until the far end answers."""
        deadline = time.monotonic() + seconds
        while not self.pings(1, 0.2):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: nothing comes back from the far end")

    def inner_addresses(self, device=None):
        """Each end's address; with @device the route to the other's through it."""
        for net, _, here, there, *_ in self.sides():
            net.run("ip", "addr", "add", f"{here}/32", "dev", "lo", check=True)
            if device:
                net.run("ip", "link", "set", device, "mtu", "1400", "txqueuelen", "1000", "up",
                        check=True)
                net.run("ip", "route", "add", there, "dev", device, "src", here, "mtu", "1400",
                        check=True)


class Path(Ends):
    """A wire, and xfrmd (@daemon) at both ends of it, with the text @config as its configuration.
    @daemon None: plain veth."""

    def __init__(self, name, daemon, encap=ENCAP, segmented=False, counted=None, config=None):
        from xfrmd import wire
        super().__init__(name, *wire(make_netns))
        self.counted = counted
        self.encap = encap
        for net, core, *_ in self.sides():
            if segmented:
                net.run("ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off",
                        "tx-udp-segmentation", "off", check=True)
            if daemon:
                self.programs.append(start(net, daemon, core, counted, config))
        self.inner_addresses()
        for net, _, here, there, _, gateway in self.sides():
            net.run("ip", "route", "add", there, "via", gateway, "src", here, "mtu", "1400",
                    check=True)
        if daemon:
            self.protect()
        self.serve()

    def protect(self):
        for net, _, here, there, *ends in self.sides():
            for a, b, spi in (*OUTER, "0x1000"), (*OUTER[::-1], "0x2000"):
                net.xfrm("state", "add", *sa(a, b, spi), *self.encap, check=True)
            for way, src, dst, a, b in (("out", here, there, *ends),
                                        ("in", there, here, *ends[::-1])):
                net.xfrm("policy", "add", *policy(way, src, dst, a, b), check=True)

    def peak_mb(self):
        """The larger one of the two daemons."""
        return max(peak_mb(program.pid) for program in self.programs)


def sa(src, dst, spi, reqid="1"):
    """Arguments of ip xfrm state add."""
    return ("src", src, "dst", dst, "proto", "esp", "spi", spi, "reqid", reqid, "mode", "tunnel",
            "replay-window", "64", "aead", "rfc4106(gcm(aes))", KEY, "128")


def policy(way, src, dst, outer_src, outer_dst, reqid="1"):
    return ("src", src, "dst", dst, "dir", way, "tmpl", "src", outer_src, "dst", outer_dst, "proto",
            "esp", "reqid", reqid, "mode", "tunnel")


def peak_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s*(\d+)", file.read())[1]) / 1024


class Pipe(Ends):
    """Two namespaces with a TUN each, and bench/tun_pipe between them."""

    def __init__(self, name, build):
        super().__init__(name, make_netns(), make_netns())
        program = subprocess.Popen([os.path.join(build, "bench", "tun_pipe"), self.near.name,
                                    str(CORE["near"]), self.far.name, str(CORE["far"])],
                                   stdout=subprocess.PIPE, text=True)
        running.append(program)
        self.programs.append(program)
        if program.stdout.readline().strip() != "ready":
            raise RuntimeError("tun_pipe did not start")
        self.inner_addresses("pipe0")
        self.serve()


class Relay(Ends):
    """A wire, and bench/udp_relay at both ends of it."""

    def __init__(self, name, build):
        from xfrmd import wire
        super().__init__(name, *wire(make_netns))
        for net, core, _, _, here, there in self.sides():
            program = spawn(net, core, os.path.join(build, "bench", "udp_relay"), here, there,
                            "7000", stdout=subprocess.PIPE, text=True)
            self.programs.append(program)
            if program.stdout.readline().strip() != "ready":
                raise RuntimeError("udp_relay did not start")
        self.inner_addresses("relay0")
        self.serve()


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


def start(net, daemon, core, counted=None, config=None):
    """As Netns.start(), on one core."""
    args = []
    if config:
        with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as file:
            file.write(config)
        args = ["--config", file.name]
    net.log = open(f"/tmp/{net.name}.log", "a+", encoding="utf-8")
    try:
        net.daemon = subprocess.Popen(net.argv("taskset", "-c", str(core), daemon, *args),
                                      stderr=net.log, stdout=net.log,
                                      env=counted.env() if counted else None)
        deadline = time.monotonic() + 60
        while "ready: network namespace" not in net.text():
            if net.daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{daemon} did not start: {net.text()}")
            time.sleep(0.05)
    finally:
        if config:
            os.unlink(file.name)
    return net.daemon
