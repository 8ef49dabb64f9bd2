#!/usr/bin/env python3
"""The same words to a Linux kernel and to xfrmd: same outputs, errno and exit statuses.

  same_words.py --build build     compare; TAP, one line a command that differs and one for the sum
  same_words.py --kernel-only     show what the kernel answers

Both run words.sh and raw.py, the kernel as a user-mode-linux peer (kernel-peer.sh), xfrmd in a
network namespace of its own through xfrm-exec. Differences that are meant to be are in allowed.txt.
"""
import argparse
import difflib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = f"python3 '{HERE}/raw.py' && sh '{HERE}/words.sh'\n"
PEER = os.environ.get("XFRMD_PEER", os.path.join(HERE, "..", "kernel-peer.sh"))
LIMIT = 600  # seconds for all words on one side

# What may differ from run to run, or from one implementation to the other, without meaning.
NOISE = [
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "DATE"),
    (re.compile(r"^Timestamp: .*$", re.M), "Timestamp"),
    # Sizes of hash tables.
    (re.compile(r"(SPD buckets:|SAD buckets|buckets count|buckets Max).*"), r"\1"),
]


def run(*argv, **kwargs):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **kwargs)


def find(build, program):
    for where, _, names in os.walk(build):
        if program in names and os.access(os.path.join(where, program), os.X_OK):
            return os.path.abspath(os.path.join(where, program))
    raise RuntimeError(f"{program} is not built in {build}")


def kernel_words(netns, work):
    script = os.path.join(work, "words")
    with open(script, "w", encoding="utf-8") as file:
        file.write(WORDS)
    done = run(PEER, "run", netns, "words0", script, str(LIMIT))
    if done.returncode:
        raise RuntimeError(f"kernel peer: {done.stdout[-500:]}")
    return done.stdout


class Daemon:
    """xfrmd in a network namespace, as long as the with block."""

    def __init__(self, netns, build, work):
        self.netns, self.work = netns, work
        self.program, self.wrapper = find(build, "xfrmd"), find(build, "xfrm-exec")
        self.daemon = None

    def inside(self, *argv, **kwargs):
        return run("ip", "netns", "exec", self.netns, self.wrapper, *argv, **kwargs)

    def __enter__(self):
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        with open(os.path.join(self.work, "log"), "w", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(["ip", "netns", "exec", self.netns, self.program],
                                           stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        for _ in range(600):
            if self.daemon.poll() is not None:
                break
            if self.inside("ip", "xfrm", "state", "count").returncode == 0:
                return self
            time.sleep(0.1)
        said = self.said()
        self.__exit__()
        raise RuntimeError(f"xfrmd does not answer: {said}")

    def said(self):
        with open(os.path.join(self.work, "log"), encoding="utf-8") as log:
            return log.read()[-2000:]

    def __exit__(self, *_):
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(5)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        run("ip", "netns", "del", self.netns)

    def words(self):
        done = self.inside("sh", "-c", WORDS, timeout=LIMIT)
        if self.daemon.poll() is not None:
            raise RuntimeError(f"xfrmd ended: {self.said()}")
        return done.stdout


def records(text):
    """[(command, output and status)]"""
    for pattern, instead in NOISE:
        text = pattern.sub(instead, text)
    return re.findall(r"^>>> (.*)\n((?:(?!>>> ).*\n)*)", text, re.M)


def allowances():
    with open(os.path.join(HERE, "allowed.txt"), encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split(" :: ", 1) for line in lines if line[0] not in "#\n"]
    return [(re.compile(pattern), reason) for pattern, reason in rows]


def compare(kernel, xfrmd):
    """Prints TAP; True when the words are the same but for what is allowed."""
    allowed, used, failed = allowances(), set(), 0
    if [command for command, _ in kernel] != [command for command, _ in xfrmd]:
        print("Bail out! the two sides were told different words")
        return False
    for number, ((command, there), (_, here)) in enumerate(zip(kernel, xfrmd), 1):
        if there == here:
            print(f"ok {number} - {command}")
            continue
        reason = next((row for row in allowed if row[0].search(command)), None)
        if reason:
            used.add(reason)
            print(f"ok {number} - {command} # differs: {reason[1]}")
            continue
        failed += 1
        print(f"not ok {number} - {command}")
        for line in difflib.unified_diff(there.splitlines(), here.splitlines(), "kernel", "xfrmd",
                                         lineterm=""):
            print(f"#   {line}")
    for pattern, reason in set(allowed) - used:
        print(f"# allowed.txt: no difference for {pattern.pattern!r} ({reason})")
    print(f"1..{len(kernel)}")
    print(f"# {len(kernel)} commands, {failed} differ, {len(used)} differences allowed")
    return not failed and used == set(allowed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="where xfrmd is built")
    parser.add_argument("--kernel-only", action="store_true", help="show the kernel's answers")
    args = parser.parse_args()
    if os.geteuid() != 0 or run(PEER, "setup").returncode == 77:
        print("1..0 # SKIP needs root and Debian's user-mode-linux")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    netns = f"xfrmd-words-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="xfrmd-words-") as work:
        kernel = kernel_words(netns + "-k", work)
        if args.kernel_only:
            print(kernel)
            return 0
        with Daemon(netns, args.build, work) as daemon:
            xfrmd = daemon.words()
    return 0 if compare(records(kernel), records(xfrmd)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"same_words: {error}")
