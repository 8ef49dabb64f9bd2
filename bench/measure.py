"""What is measured on a path: each function returns {metric: value}, or None: it failed."""
import statistics
import time

from paths import CORE, FAR, end, spawn

LOSS = 0.1  # per cent, at most
STEP = 1.5  # between rates that are tried first
FINE = 3  # rates that are tried between two of those
ENOUGH = 0.85  # of what was asked for: with less, it was the sender that could not


def tcp(path, reverse=False, control="cubic"):
    before = path.cpu_s()
    answer = path.client("-C", control, *(["-R"] if reverse else []))
    if not answer:
        return None
    got = answer["end"]["sum_received"]
    gigabits = got["bytes"] * 8 / 1e9
    found = {"gbps": got["bits_per_second"] / 1e9}
    if path.programs and gigabits:
        found["cpu_s_per_gb"] = (path.cpu_s() - before) / gigabits
    return found


def arrived(path, size, mbps):
    """Mb/s of payload that arrived when @mbps were asked for; 0: too much was lost. A loss may be
    another program's doing: it counts when it comes twice."""
    for _ in range(2):
        answer = path.client("-u", "-b", f"{mbps}M", "-l", str(size - 28), "-w", "4M", seconds=1)
        if answer and answer["end"]["sum"]["lost_percent"] <= LOSS:
            got = answer["end"].get("sum_received", answer["end"]["sum"])
            return got["bytes"] * 8 / got["seconds"] / 1e6 if got["seconds"] else 0
    return 0


def udp(size, guess):
    """The highest rate with at most LOSS, @size being that of the inner IP packets. From @guess
    (Mb/s), later from what was found last, up or down until one rate works and the next one does
    not, or the sender gives no more; then between those two. What counts is what arrived."""
    last = {}

    def bracket(path, rate):
        """(what arrived, rate that works, rate that does not or None: the sender's limit)"""
        best, works, fails = 0, None, None
        while not (works and fails):
            got = arrived(path, size, round(rate, 2))
            best = max(best, got)
            if got and got < ENOUGH * rate:
                return best, rate, None
            if got:
                works, rate = rate, rate * STEP
            else:
                fails, rate = rate, rate / STEP
            if rate < 1:
                break
        return best, works, fails

    def measure(path):
        best, works, fails = bracket(path, last.get(path.name, guess))
        if not best:
            return None
        for _ in range(FINE if fails else 0):
            rate = (works * fails) ** 0.5
            got = arrived(path, size, round(rate, 2))
            best = max(best, got)
            works, fails = (rate, fails) if got else (works, rate)
        last[path.name] = works
        return {"gbps": best / 1000}

    return measure


def idle(path):
    times = path.pings(100, 0.005)
    return {"ping_us": statistics.median(times)} if times else None


def loaded(path):
    load = spawn(path.near, CORE["near"], "iperf3", "-c", FAR, "-C", "cubic", "-t", "3")
    time.sleep(0.5)
    times = sorted(path.pings(200, 0.01))
    load.wait()
    end(load)
    if len(times) < 100:
        return None
    return {"ping_us": statistics.median(times), "ping_p99_us": times[len(times) * 99 // 100]}


def idle_cpu(paths, seconds):
    """{name: per cent of a core} of the busier program at each path's ends, nothing to do."""
    from paths import cpu_s
    programs = {path.name: [program.pid for program in path.programs] for path in paths}
    time.sleep(1)
    before = {pid: cpu_s(pid) for pids in programs.values() for pid in pids}
    time.sleep(seconds)
    return {name: max(100 * (cpu_s(pid) - before[pid]) / seconds for pid in pids)
            for name, pids in programs.items()}
