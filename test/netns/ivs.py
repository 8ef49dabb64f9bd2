#!/usr/bin/env python3
"""IVs never come again: not for the same key and SPI added again, not in another process.

For AES-GCM one repeated IV under one key gives both plaintexts away (SP 800-38D section 8).
"""
import subprocess
import time

from xfrmd import add_sa, equal, main, protect, wire

PACKETS = 20
ESP = 50


def frames(path):
    """The packets of a pcap file, from the IP header on."""
    with open(path, "rb") as f:
        data = f.read()
    at = 24
    while at + 16 <= len(data):
        length = int.from_bytes(data[at + 8:at + 12], "little")
        yield data[at + 16 + 14:at + 16 + length]
        at += 16 + length


def ivs_sent(near, far):
    """Send through the SA; the (sequence number, IV) of what crossed the wire."""
    path = f"/tmp/{near.name}.pcap"
    dump = subprocess.Popen(far.argv("tcpdump", "-n", "-U", "--immediate-mode", "-i", "eth0", "-w",
                                     path, "-c", str(PACKETS), "ip", "proto", str(ESP)),
                            stderr=subprocess.PIPE, text=True)
    while "listening on" not in dump.stderr.readline():
        pass
    near.run("ping", "-q", "-c", str(PACKETS), "-i", "0.01", "-W", "0.1", "198.51.100.1")
    dump.wait(timeout=60)
    found = [(int.from_bytes(ip[24:28], "big"), ip[28:36]) for ip in frames(path)]
    subprocess.run(["rm", "-f", path], check=True)
    equal(len(found), PACKETS)
    equal([seq for seq, _ in found], list(range(1, PACKETS + 1)))
    return [iv for _, iv in found]


def all_differ(runs):
    together = [iv for run in runs for iv in run]
    equal(len(set(together)), len(runs) * PACKETS)


def the_same_sa_added_three_times(netns):
    near, far = wire(netns)
    near.start()
    protect(near)
    runs = []
    for _ in range(3):
        add_sa(near, check=True)
        runs.append(ivs_sent(near, far))
        equal(near.xfrm("state", "delete", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp",
                        "spi", "0x1000").returncode, 0)
    all_differ(runs)


def two_processes_with_the_same_keys(netns):
    runs = []
    for _ in range(2):
        near, far = wire(netns)
        near.start()
        protect(near)
        add_sa(near, check=True)
        runs.append(ivs_sent(near, far))
    all_differ(runs)


def a_daemon_that_was_killed(netns):
    near, far = wire(netns)
    runs = []
    for start in range(2):
        near.start()
        if start == 0:
            protect(near)
        add_sa(near, check=True)
        runs.append(ivs_sent(near, far))
        near.stop(9)
        time.sleep(0.1)
    all_differ(runs)


main([the_same_sa_added_three_times, two_processes_with_the_same_keys, a_daemon_that_was_killed])
