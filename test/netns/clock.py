#!/usr/bin/env python3
"""Somebody sets the clock: what has happened keeps its time, and lifetimes go on.

The daemon has a wall clock of its own (fake_clock.c); the machine's is left alone.
"""
import os
import time

from xfrmd import BUILD, add_sa, echo, equal, main, protect, wait_for, wire

FAKE = f"{BUILD}/test/netns/libfake_clock.so"
HOUR = 3600


class Clock:
    """The wall clock of a daemon that is started with it."""

    def __init__(self, net):
        self.path, self.ahead_s = f"/tmp/{net.name}.clock", 0
        with open(self.path, "w", encoding="ascii") as file:
            file.write("0")
        os.mkfifo(self.path + ".set", 0o600)
        self.net, self.steps = net, 0

    def start_daemon(self):
        env = {"LD_PRELOAD": FAKE, "FAKE_CLOCK": self.path}
        os.environ.update(env)
        try:
            self.net.start()
        finally:
            for name in env:
                del os.environ[name]

    def step(self, seconds):
        """Set it, and wait until the daemon knows."""
        self.ahead_s += seconds
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(str(self.ahead_s * 10 ** 9))
        os.rename(self.path + ".new", self.path)
        with open(self.path + ".set", "wb") as file:
            file.write(b"x")
        self.steps += 1
        wait_for(lambda: self.net.text().count("the clock was set") == self.steps)

    def now(self):
        return time.time() + self.ahead_s

    def remove(self):
        for name in self.path, self.path + ".set":
            os.unlink(name)


def sa_times(net, spi):
    found, = [sa for sa in net.ask("sa") if int(sa["spi"], 0) == spi]
    return found["lifetime"]["added"], found["lifetime"]["used"]


def policy_times(net):
    found, = net.ask("policy")
    return found["lifetime"]["added"], found["lifetime"]["used"]


def between(clock, what):
    """What @what() gives; a check that a time lies within it. Never in the future."""
    before = clock.now()
    result = what()
    after = clock.now()

    def check(seconds):
        if not int(before) - 1 <= seconds <= after:
            raise AssertionError(f"{seconds} is not from {before} to {after}")
    return result, check


def use(net):
    """A packet, that nobody answers, by the SA and the policy."""
    before = net.ask("stats")["engine"]["out_packets"]
    echo(net, "198.51.100.1", wait=0.1)
    wait_for(lambda: net.ask("stats")["engine"]["out_packets"] > before)


def times_stay(netns):
    near, _ = wire(netns)
    clock = Clock(near)
    try:
        clock.start_daemon()
        _, policy_made = between(clock, lambda: protect(near))
        policy_made(policy_times(near)[0])
        _, first_made = between(clock, lambda: add_sa(near, 0x1000, check=True))
        first_made(sa_times(near, 0x1000)[0])
        clock.step(HOUR)
        # Policies know their last use to a quarter of a second.
        time.sleep(0.3)
        first_made(sa_times(near, 0x1000)[0])
        _, used = between(clock, lambda: use(near))
        time.sleep(0.3)
        clock.step(-2 * HOUR)
        _, second_made = between(clock, lambda: add_sa(near, 0x2000, check=True))
        second_made(sa_times(near, 0x2000)[0])
        clock.step(HOUR)
        first_made(sa_times(near, 0x1000)[0])
        used(sa_times(near, 0x1000)[1])
        used(policy_times(near)[1])
        policy_made(policy_times(near)[0])
        second_made(sa_times(near, 0x2000)[0])
    finally:
        clock.remove()


def lifetimes_go_on(netns):
    net = netns()
    clock = Clock(net)

    def add(spi, seconds):
        net.xfrm("state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", spi,
                 "mode", "tunnel", "auth", "hmac(sha256)", "0x" + "11" * 32, "enc",
                 "ecb(cipher_null)", "", "limit", "time-hard", seconds, check=True)

    try:
        clock.start_daemon()
        add("0x77", "1000")
        clock.step(HOUR)
        add("0x78", "2")
        clock.step(-HOUR)
        wait_for(lambda: [int(sa["spi"], 0) for sa in net.ask("sa")] == [0x77])
    finally:
        clock.remove()


main([times_stay, lifetimes_go_on])
