#!/usr/bin/env python3
"""xfrmd against a real Linux kernel: the same SAs on both sides, traffic in both directions.

Each cell is a suite in a mode: ping of 56 and 8000 bytes from either side and a TCP transfer each
way, compared by checksum. The policies of the kernel's side accept nothing that did not come
through the SA, and both SAs must have counted packets on that side. A cell that the kernel cannot
set up is skipped, with the kernel's own words.

  matrix.py --build build               the matrix
  matrix.py --pairwise --tap            a subset in which any two parameters meet, as TAP
  matrix.py --cell 'gcm128.* esn'       cells whose names match
  matrix.py --kernel-only               two kernels: what a cell asks for can be done at all
"""
import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import cells  # noqa: E402

PEER = os.path.join(HERE, "kernel-peer.sh")
AGENT = os.path.join(HERE, "agent.py")
MACS = ("02:78:66:00:00:01", "02:78:66:00:00:02")
EXEC_LIMIT = 150  # seconds for one script: no cell is about how fast the machine is
PING_LIMIT = 30
PACKET_SIZES = (56, 8000)


def run(*argv, check=True, **more):
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors="replace", check=False, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout.strip()}")
    return done


class Kernel:
    """A kernel peer on a tap."""
    xfrm = "ip"
    counters = "cat /proc/net/xfrm_stat /proc/net/snmp /proc/net/snmp6 /proc/net/dev"

    def __init__(self, side, netns, tap, work):
        self.name, self.work = f"matrix-{side}-{os.getpid()}", work
        self.side, self.number, self.device = side, 0, "vec0"
        run(PEER, "start", self.name, netns, tap, MACS[side])

    def sh(self, text, limit=EXEC_LIMIT):
        self.number += 1
        path = os.path.join(self.work, f"{self.name}.{self.number}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        done = run(PEER, "exec", self.name, path, str(limit), check=False)
        os.unlink(path)
        if done.returncode == 125:
            raise RuntimeError(done.stdout)
        return done

    def prepare(self):
        done = self.sh(cells.ground(self.side, self.device, MACS[1 - self.side])
                       + f"python3 -u {AGENT} serve --encap >/run/agent 2>&1 &\n"
                       "for n in $(seq 200); do sleep 0.3\n"
                       "ss -ltn | grep -q :7700 && exit 0; done; cat /run/agent; exit 1\n")
        if done.returncode:
            raise RuntimeError(f"kernel peer: {done.stdout}")

    def stop(self):
        run(PEER, "stop", self.name, check=False)


class Daemon:
    """xfrmd in a network namespace, programmed through xfrm-exec."""

    def __init__(self, side, netns, tap, build, work):
        self.side, self.netns, self.device = side, netns, tap
        self.program = find(build, "xfrmd")
        self.xfrm = find(build, "xfrm-exec") + " ip"
        self.counters = find(build, "xfrmctl") + \
            " stats; cat /proc/net/snmp /proc/net/snmp6 /proc/net/dev"
        self.log = open(os.path.join(work, "xfrmd.log"), "w+", encoding="utf-8")
        self.daemon = self.agent = None

    def sh(self, text, limit=EXEC_LIMIT):
        try:
            return run("ip", "netns", "exec", self.netns, "sh", input=text, check=False,
                       timeout=limit)
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(late.args, 124, f"no end after {limit} s")

    def spawn(self, *argv, log):
        return subprocess.Popen(["ip", "netns", "exec", self.netns, *argv], stdout=log,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def prepare(self):
        run("ip", "-n", self.netns, "link", "set", self.device, "address", MACS[self.side])
        done = self.sh(cells.ground(self.side, self.device, MACS[1 - self.side]))
        if done.returncode:
            raise RuntimeError(done.stdout)
        self.daemon = self.spawn(self.program, log=self.log)
        self.agent = self.spawn("python3", AGENT, "serve", log=subprocess.DEVNULL)
        for _ in range(600):
            if self.daemon.poll() is not None:
                raise RuntimeError(f"xfrmd ended: {self.said()}")
            if self.sh(f"{self.xfrm} xfrm state count").returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"xfrmd does not answer: {self.said()}")

    def said(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-20:])

    def stop(self):
        for child in (self.agent, self.daemon):
            if child and child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def find(build, program):
    for where, _, names in os.walk(build):
        if program in names and os.access(os.path.join(where, program), os.X_OK):
            return os.path.abspath(os.path.join(where, program))
    raise RuntimeError(f"{program} is not built in {build}")


class Wire:
    """The namespace between the two sides, and the sides."""

    def __init__(self, build, work):
        self.netns, self.sides = f"xfrmd-matrix-{os.getpid()}", []
        self.waker = None
        run("ip", "netns", "add", self.netns)
        try:
            self._make(build, work)
        except BaseException:
            self.stop()
            raise

    def _make(self, build, work):
        wire = "wire" if build else "bridge"
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        if build:
            run("ip", "-n", self.netns, "tuntap", "add", wire, "mode", "tap")
            self.sides.append(Daemon(0, self.netns, wire, build, work))
            self.sides.append(Kernel(1, self.netns, wire, work))
        else:
            run("ip", "-n", self.netns, "link", "add", wire, "up", "type", "bridge")
            for side in (0, 1):
                self.sides.append(Kernel(side, self.netns, f"tap{side}", work))
                run("ip", "-n", self.netns, "link", "set", f"tap{side}", "master", wire)
        self.waker = subprocess.Popen(["ip", "netns", "exec", self.netns, "python3", AGENT, "wake",
                                       wire], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for side in self.sides:
            side.prepare()

    def stop(self):
        if self.waker:
            self.waker.kill()
            self.waker.wait()
        for side in self.sides:
            side.stop()
        run("ip", "netns", "del", self.netns, check=False)


def install(side, cell, number):
    """Returns what the side says against the cell, or an empty string."""
    flush = "ip -4 route flush cache; ip -6 route flush cache\n"
    done = side.sh(f"{flush}{side.xfrm} -batch - <<'END'\n"
                   f"{cells.setup(cell, number, side.side)}END\n")
    return done.stdout.strip() if done.returncode else ""


def traffic(side, cell, transfer):
    """Pings, and for one of the sides the transfer; returns the faults."""
    other = cells.addresses(cell, side.side)[1]
    ways = "from {} to {}".format(*("xfrmd", "kernel") if side.side == 0 else ("kernel", "xfrmd"))
    lines = [f"said=$(ping -n -c1 -W{PING_LIMIT} -s{size} {other} 2>&1) ||"
             f" {{ echo ping {size} {ways}, status $?: $said; lost=1; }}" for size in PACKET_SIZES]
    if transfer:
        lines.append(f'[ -n "$lost" ] || python3 {AGENT} transfer {other}')
    else:
        lines += ["echo SA", "ip -s xfrm state"]
    return side.sh("\n".join(lines) + "\n").stdout


def counters_of(side):
    return [" ".join(line.split()) for line in side.sh(side.counters).stdout.splitlines()]


def faults_of(wire, cell, number):
    """Run one cell. Returns (verdict, sentence)."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        refused = list(pool.map(lambda side: install(side, cell, number), wire.sides))
    if refused[1]:
        return "skip", f"the kernel cannot: {' '.join(refused[1].split())}"
    if refused[0]:
        return "fail", f"refused: {' '.join(refused[0].split())}"
    before = [counters_of(side) for side in wire.sides]
    faults = traffic(wire.sides[0], cell, True).strip().splitlines()
    pings, _, states = traffic(wire.sides[1], cell, False).partition("SA\n")
    faults += pings.strip().splitlines()
    counted = re.findall(r"lifetime current:\s*\d+\(bytes\), (\d+)\(packets\)", states)
    if len(counted) != 2 or "0" in counted:
        faults.append(f"the kernel's SAs counted {' and '.join(counted) or 'nothing'}")
    if not faults:
        return "ok", ""
    for side, was in zip(wire.sides, before):
        faults += [line for line in counters_of(side) if line not in was]
    return "fail", "; ".join(faults)


class Report:
    """Cells as they come, as TAP or as a table."""

    def __init__(self, tap, path):
        self.tap, self.path, self.rows, self.start = tap, path, [], time.monotonic()

    def add(self, cell, verdict, sentence):
        self.rows.append((cells.name(cell), verdict, sentence))
        number, name = len(self.rows), cells.name(cell)
        if self.tap:
            for line in [sentence] if verdict == "fail" else []:
                print(f"# {line}")
            skip = f" # SKIP {sentence}" if verdict == "skip" else ""
            print(f"{'not ok' if verdict == 'fail' else 'ok'} {number} - {name}{skip}", flush=True)
        else:
            print(f"{number:4} {verdict:4} {name}{': ' if sentence else ''}{sentence}", flush=True)

    def count(self, verdict):
        return sum(row[1] == verdict for row in self.rows)

    def finish(self, title):
        summary = (f"{len(self.rows)} cells in {time.monotonic() - self.start:.0f} s: "
                   f"{self.count('ok')} passed, {self.count('fail')} failed, "
                   f"{self.count('skip')} skipped")
        print(f"1..{len(self.rows)}\n# {summary}" if self.tap else summary)
        if self.path:
            with open(self.path, "w", encoding="utf-8") as file:
                file.write(f"# {title}\n\n{summary}\n\n| cell | verdict | why |\n|---|---|---|\n")
                file.writelines(f"| {n} | {v} | {s.replace('|', '/')} |\n"
                                for n, v, s in self.rows)


def select(args):
    chosen = cells.matrix()
    if args.pairwise:
        chosen = cells.pairwise()
    elif args.everything:
        chosen = cells.everything()
    if args.cell:
        pool = chosen if args.pairwise else cells.everything()
        chosen = [cell for cell in pool if re.search(args.cell, cells.name(cell))]
    return chosen


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="where xfrmd is built")
    parser.add_argument("--pairwise", action="store_true", help="a subset")
    parser.add_argument("--everything", action="store_true", help="each suite in each mode")
    parser.add_argument("--cell", metavar="REGEX", help="only cells of this name")
    parser.add_argument("--kernel-only", action="store_true", help="two kernels, no xfrmd")
    parser.add_argument("--tap", action="store_true", help="print TAP")
    parser.add_argument("--list", action="store_true", help="print the cells' names only")
    return parser.parse_args()


def main():
    args = arguments()
    chosen = select(args)
    if args.list:
        print("\n".join(cells.name(cell) for cell in chosen))
        return 0
    if os.geteuid() != 0 or run(PEER, "setup", check=False).returncode == 77:
        print("skip: needs root and Debian's user-mode-linux")
        return 77
    report = Report(args.tap, None if args.cell else os.path.join(args.build, "interop.md"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    with tempfile.TemporaryDirectory(prefix="xfrmd-matrix-") as work:
        wire = Wire(None if args.kernel_only else args.build, work)
        try:
            for number, cell in enumerate(chosen):
                report.add(cell, *faults_of(wire, cell, number))
        finally:
            if report.count("fail") and isinstance(wire.sides[0], Daemon):
                print("".join(f"# xfrmd: {line}\n" for line in wire.sides[0].said().splitlines()))
            wire.stop()
    left = "kernel" if args.kernel_only else "xfrmd"
    report.finish(f"Interoperability: {left} and Linux")
    return 1 if report.count("fail") else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"matrix: {error}")
