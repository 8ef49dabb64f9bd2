#!/usr/bin/env python3
"""The journal of policies: whose it is, a full /run, damage, release while a daemon starts."""
import os
import signal
import subprocess
import time

from xfrmd import CTL, DAEMON, EXEC, equal, holds, main, wait_for


def add_policy(net, number, verb="add", *more):
    return net.xfrm("policy", verb, "dst", f"10.{number // 250}.{number % 250}.0/24", "dir", "out",
                    "tmpl", "proto", "esp", "mode", "transport", *more)


def policies(net):
    return net.xfrm("policy").stdout


def captured(net):
    return net.run("nft", "list", "table", "inet", "xfrmd").stdout


def gone(net):
    """Which of TUN, table and rule are gone."""
    return (net.run("ip", "link", "show", "xfrmd0").returncode != 0,
            "xfrmd" not in net.run("nft", "list", "tables").stdout,
            "0x40000000" not in net.run("ip", "rule").stdout)


def policies_come_back_without_the_tun(netns):
    for how in (signal.SIGKILL, signal.SIGTERM):
        net = netns()
        net.start()
        add_policy(net, 1)
        before = policies(net)
        holds(before, "10.0.1.0/24")
        net.stop(how)
        net.run("ip", "link", "del", "xfrmd0", check=True)
        net.start()
        equal(policies(net), before)
        holds(captured(net), "10.0.1.0/24")


def another_namespaces_file_is_set_aside(netns):
    one, two = netns(), netns()
    one.start()
    add_policy(one, 1)
    one.stop()
    # As if the inode had been used again; the cookie is not.
    with open(one.path("policies"), "rb") as f:
        text = f.read()
    with open(two.path("policies"), "wb") as f:
        f.write(text)
    two.start()
    equal(policies(two), "")
    holds(two.text(), "set aside")
    equal(os.path.exists(two.path("policies.old")), True)
    two.stop()
    two.start()
    equal("set aside" in two.text(), False)


def refused(net, part):
    done = net.run(DAEMON)
    equal(done.returncode, 1)
    holds(done.stderr, part)
    holds(done.stderr, "xfrmctl release")
    holds(captured(net), "10.0.1.0/24")


def a_hole_leaves_the_rules(netns):
    net = netns()
    net.start()
    add_policy(net, 1)
    net.stop(signal.SIGKILL)
    with open(net.path("policies"), "r+b") as f:
        f.seek(200)
        f.write(b"\x00\xff" * 8)
    refused(net, "it is damaged")
    os.truncate(net.path("policies"), 150)
    refused(net, "it is damaged")
    os.rename(net.path("policies"), net.path("policies.old"))
    refused(net, "it is gone")
    os.rename(net.path("policies.old"), net.path("policies"))
    equal(net.ctl("release").returncode, 0)
    equal(gone(net), (True, True, True))
    equal(os.path.exists(net.path("policies")), False)
    net.start()
    equal(policies(net), "")


class Full:
    """The daemon with a /run/xfrmd of its own, that holds @kib, in a mount namespace of its own."""

    def __init__(self, net, kib):
        self.net = net
        self.daemon = None
        self.hog = None
        self.monitor = None
        self.dir = f"/tmp/{net.name}.run"
        os.mkdir(self.dir)
        self.holder = subprocess.Popen(
            net.argv("unshare", "-m", "--propagation", "private", "sh", "-c",
                     f"mkdir -p /run/xfrmd && mount -t tmpfs -o mode=755,size={kib}k x /run/xfrmd "
                     f"&& touch {self.dir}/up && exec sleep 600"))
        wait_for(lambda: os.path.exists(f"{self.dir}/up"), 30)

    def argv(self, *args):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-n", *args]

    def run(self, *args):
        return subprocess.run(self.argv(*args), text=True, capture_output=True, timeout=60)

    def xfrm(self, *args):
        return self.run(EXEC, "ip", "xfrm", *args)

    def ctl(self, *args):
        return self.run(CTL, *args)

    def start(self):
        log = open(f"{self.dir}/log", "w+")
        self.daemon = subprocess.Popen(self.argv(DAEMON), stderr=log)
        log.close()
        wait_for(lambda: "ready: network namespace" in self.text(), 30)

    def fill(self):
        """All of it, and on and on."""
        self.hog = subprocess.Popen(self.argv(
            "sh", "-c", "while :; do dd if=/dev/zero bs=4k oflag=append conv=notrunc "
            "of=/run/xfrmd/filler status=none 2>/dev/null; done"))
        wait_for(lambda: self.run("sh", "-c", "df --output=avail /run/xfrmd | tail -n 1")
                 .stdout.strip() == "0", 30)

    def relent(self):
        if self.hog:
            self.hog.kill()
            self.hog.wait()
        self.hog = None

    def kill(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()

    def text(self):
        with open(f"{self.dir}/log") as f:
            return f.read()

    def close(self):
        self.relent()
        self.kill()
        if self.monitor:
            self.monitor.kill()
            self.monitor.wait()
        self.holder.kill()
        self.holder.wait()
        subprocess.run(["rm", "-r", self.dir], check=True)


def batch(full, verb, numbers):
    """One ip -batch; how many it did before it failed."""
    lines = "".join(f"xfrm policy {verb} dst 10.{n // 250}.{n % 250}.0/24 dir out"
                    + (" tmpl proto esp mode transport\n" if verb != "delete" else "\n")
                    for n in numbers)
    return subprocess.run(full.argv(EXEC, "ip", "-batch", "-"), input=lines, text=True,
                          capture_output=True, timeout=120)


def table_of(full):
    return full.xfrm("policy").stdout, full.run("nft", "list", "table", "inet", "xfrmd").stdout


def a_full_run_refuses_and_keeps(netns):
    full = Full(netns(), 256)
    try:
        full.start()
        failed = batch(full, "add", range(2000))
        holds(failed.stderr, "the journal of policies is full: /run/xfrmd/")
        many = full.xfrm("policy").stdout.count("dir out")
        equal(100 < many < 1500, True)
        # Somebody takes what is left, and whatever is given back.
        full.fill()
        # The rules become exact a moment after the last change; what is refused moves nothing.
        before = full.xfrm("policy").stdout
        full.monitor = subprocess.Popen(full.argv(EXEC, "ip", "xfrm", "monitor", "policy"),
                                        stdout=subprocess.PIPE, text=True)
        wait_for(lambda: '"now":1' in full.ctl("status", "--json").stdout.replace(" ", ""), 30)
        for _ in range(3):
            equal(batch(full, "add", [1999]).returncode != 0, True)
        equal(full.xfrm("policy").stdout, before)
        equal("10.7.249.0/24" in table_of(full)[1], False)
        # What is there already has its own error.
        holds(batch(full, "add", [1]).stderr, "File exists")
        # Updates, many times over all; deletes; all survive.
        for _ in range(4):
            equal(batch(full, "update", range(many)).stderr, "")
        equal(batch(full, "delete", range(0, many, 2)).stderr, "")
        full.relent()
        full.monitor.kill()
        events = full.monitor.communicate()[0]
        equal("10.7.249.0/24" in events, False)
        holds(events, "10.0.1.0/24")
        before = full.xfrm("policy").stdout
        equal(before.count("dir out"), many // 2)
        full.kill()
        full.start()
        equal(full.xfrm("policy").stdout, before)
        # What was given up can be used again, and a flush always works.
        equal(batch(full, "add", range(0, many // 2, 2)).stderr, "")
        equal(full.xfrm("policy", "flush").returncode, 0)
        full.kill()
        full.start()
        equal(full.xfrm("policy").stdout, "")
    finally:
        full.close()


def expired_policies_stay_gone(netns):
    net = netns()
    net.start()
    add_policy(net, 1)
    equal(net.xfrm("policy", "add", "dst", "10.0.2.0/24", "dir", "out", "limit", "time-hard", "1",
                   "tmpl", "proto", "esp", "mode", "transport").stderr, "")
    wait_for(lambda: "10.0.2.0/24" not in policies(net), 30)
    before = policies(net)
    net.stop(signal.SIGKILL)
    net.start()
    equal(policies(net), before)


def state_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()[0]


def add_many(net):
    lines = "".join(f"xfrm policy add dst 10.{n // 250}.{n % 250}.0/24 dir out "
                    "tmpl proto esp mode transport\n" for n in range(5000))
    net.run(EXEC, "ip", "-batch", "-", input=lines, check=True)


def a_start_writes_little(netns):
    """A good file is continued; and what a dump takes its place with goes in blocks."""
    net = netns()
    net.start()
    add_many(net)
    for how in (signal.SIGTERM, signal.SIGKILL):
        net.stop(how)
        net.start()
        with open(f"/proc/{net.daemon.pid}/io") as f:
            calls, = (int(line.split()[1]) for line in f if line.startswith("syscw:"))
        equal(calls <= 200, True)
        equal(policies(net).count("dir out"), 5000)


def starts_with(net, kept):
    """A daemon that has taken its lock, with many policies before it."""
    if os.path.exists(net.path("ctl")):
        os.unlink(net.path("ctl"))
    with open(net.path("policies"), "wb") as f:
        f.write(kept)
    with open(f"/tmp/{net.name}.log", "w") as log:
        daemon = subprocess.Popen(net.argv(DAEMON), stderr=log)

    def locked():
        try:
            with open(net.path("lock")) as f:
                return f.read() == f"{daemon.pid}\n"
        except FileNotFoundError:
            return False

    wait_for(locked, 30)
    return daemon


def release_meets_a_start(netns):
    """Whenever it comes while a daemon has the lock: all is gone, and the daemon too."""
    net = netns()
    net.start()
    add_many(net)
    net.stop()
    with open(net.path("policies"), "rb") as f:
        kept = f.read()
    for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08):
        net.daemon = starts_with(net, kept)
        time.sleep(delay)
        net.daemon.send_signal(signal.SIGSTOP)
        wait_for(lambda: state_of(net.daemon.pid) == "T", 30)
        release = subprocess.Popen(net.argv(CTL, "release"), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        time.sleep(0.1)
        net.daemon.send_signal(signal.SIGCONT)
        out, err = release.communicate(timeout=100)
        equal((release.returncode, out, err), (0, "released: traffic flows in clear\n", ""))
        equal(net.daemon.wait(timeout=30), 0)
        net.daemon = None
        equal(gone(net), (True, True, True))
        equal(os.path.exists(net.path("policies")), False)


def no_daemon_starts_during_a_release(netns):
    """Who comes second finds the lock taken, or all of the other's work done."""
    net = netns()
    for _ in range(10):
        with open(f"/tmp/{net.name}.log", "w") as log:
            daemon = subprocess.Popen(net.argv(DAEMON), stderr=log)
        release = net.ctl("release")
        equal((release.returncode, release.stderr), (0, ""))
        wait_for(lambda: daemon.poll() is not None or net.ctl("status").returncode == 0, 30)
        if daemon.poll() is None:
            equal(gone(net), (False, False, False))
            equal(net.ctl("release").returncode, 0)
            daemon.wait(timeout=30)
        equal(gone(net), (True, True, True))


main([
    policies_come_back_without_the_tun,
    another_namespaces_file_is_set_aside,
    a_hole_leaves_the_rules,
    a_full_run_refuses_and_keeps,
    expired_policies_stay_gone,
    a_start_writes_little,
    release_meets_a_start,
    no_daemon_starts_during_a_release,
])
