#!/usr/bin/env python3
"""Several workers: each packet is received once, whoever reads it, and an idle worker sleeps."""
import os
import re
import socket
import time

from xfrmd import (ESP_IN_UDP, KEY, equal, gateways, in_netns, main, stream, tries, wait_for,
                   wire)

BYTES = 16 << 20
NEAR, FAR = "198.51.100.1", "203.0.113.1"


def tunnel(netns, encap=(), workers=2):
    near, far = wire(netns)
    for net in near, far:
        net.start_with(f"[daemon]\nworkers = {workers}\n")
    gateways(near, far, (NEAR, FAR), encap)
    return near, far


def check_each_once(near, far):
    """What one end sent the other one has received, once, and dropped nothing."""
    def has_arrived():
        counts = [net.ask("stats")["engine"] for net in (near, far)]
        return [c["out_packets"] for c in counts] == [c["in_packets"] for c in counts[::-1]]

    wait_for(has_arrived)
    for a, b in (near, far), (far, near):
        out, back = a.ask("stats"), b.ask("stats")
        equal({k: v for k, v in out["xfrm_stat"].items() if v}, {})
        equal(back["engine"]["in_packets"], out["engine"]["out_packets"])
        io = back["io"]
        equal(io["udp_rx"] + io["raw_rx"] + io["ring_rx"], out["engine"]["out_packets"])


def a_raw_packet_is_received_once(netns):
    near, far = tunnel(netns)
    stream(near, far, (NEAR, FAR), BYTES)
    check_each_once(near, far)
    equal(far.ask("stats")["io"]["udp_rx"], 0)


def any_worker_sends_and_receives_esp_in_udp(netns):
    near, far = tunnel(netns, ESP_IN_UDP)
    for port in range(5001, 5009):
        stream(near, far, (NEAR, FAR), BYTES >> 3, port=port)
    check_each_once(near, far)
    for net in near, far:
        io = net.ask("stats")["io"]
        equal((io["udp_in_use"], io["raw_rx"], io["raw_tx"]), (0, 0, 0))
        equal(io["udp_tx"], net.ask("stats")["engine"]["out_packets"])


def threads(pid):
    """Of each of a process's threads its state (R runs, S sleeps), how often it slept, its name."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as f:
            text = f.read()
        found[thread] = (re.search(r"^State:\s*(\S)", text, re.M)[1],
                         int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.M)[1]),
                         re.search(r"^Name:\s*(\S+)", text, re.M)[1])
    return found


def idle_workers_sleep(netns):
    """No thread runs or polls while there is nothing to do, the daemon's first one neither.

    What idling costs is a benchmark's matter (bench/e2e.py): time measured here would be the
    machine's, which may stand still for longer than the daemon runs in an hour.
    """
    near, far = tunnel(netns, ESP_IN_UDP)
    stream(near, far, (NEAR, FAR), 1 << 20)
    pid = near.ask("status")["pid"]

    def slept():
        """For two seconds. The namespace may have something to say in some of them."""
        before = threads(pid)
        time.sleep(2)
        after = threads(pid)
        woke = {thread: count - before[thread][1] for thread, (_, count, _) in after.items()}
        # The first thread hears of the namespace, and may look after it once in a while.
        first = woke.pop(str(pid))
        return sorted((name, state) for state, _, name in after.values()) == \
            [("greeter", "S"), ("worker", "S"), ("worker", "S"), ("xfrmd", "S")] and \
            first <= 3 and max(woke.values()) == 0

    wait_for(slept)


def ports_come_and_go(netns):
    near, far = tunnel(netns, ESP_IN_UDP)
    for _ in range(3):
        for net in near, far:
            equal(net.xfrm("state", "flush").returncode, 0)
        # Workers hold no port whose SAs are gone.
        def are_closed():
            return ":4500" not in near.run("ss", "-lunH").stdout

        wait_for(are_closed)
        for net in near, far:
            for src, dst, spi in (("192.0.2.1", "192.0.2.2", "0x1000"),
                                  ("192.0.2.2", "192.0.2.1", "0x2000")):
                net.xfrm("state", "add", "src", src, "dst", dst, "proto", "esp", "spi", spi,
                         "reqid", "1", "mode", "tunnel", "replay-window", "32", "aead",
                         "rfc4106(gcm(aes))", KEY, "128", *ESP_IN_UDP, check=True)
        stream(near, far, (NEAR, FAR), 1 << 20)
    for net in near, far:
        io = net.ask("stats")["io"]
        equal((io["raw_rx"], io["raw_tx"], io["udp_in_use"]), (0, 0, 0))


def a_port_that_an_update_leaves_is_closed(netns):
    near, _ = tunnel(netns, ESP_IN_UDP)
    near.xfrm("state", "update", "src", "192.0.2.2", "dst", "192.0.2.1", "proto", "esp", "spi",
              "0x2000", "reqid", "1", "mode", "tunnel", "replay-window", "32", "aead",
              "rfc4106(gcm(aes))", KEY, "128", "encap", "espinudp", "4500", "4501", "0.0.0.0",
              check=True)

    def moved():
        ports = near.run("ss", "-lunH").stdout
        return ":4501" in ports and ":4500" not in ports

    wait_for(moved)


def flows_without_a_hash_are_spread(netns):
    """Sockets that are not connected give none: the kernel has to make one of the packet."""
    near, far = tunnel(netns)
    sink = in_netns(far, socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind((FAR, 9))
    pid = near.ask("status")["pid"]
    before = threads(pid)

    def have_both_been_woken():
        for _ in range(64):
            with in_netns(near, socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((NEAR, 0))
                sender.sendto(b"x", (FAR, 9))
                time.sleep(0.005)
        after = threads(pid)
        return min(after[t][1] - before[t][1] for t in after if after[t][2] == "worker") >= 8

    # How often one sleeps between two packets is the scheduler's matter.
    tries(have_both_been_woken, 10)
    sink.close()


main([a_raw_packet_is_received_once, any_worker_sends_and_receives_esp_in_udp, idle_workers_sleep,
      ports_come_and_go, a_port_that_an_update_leaves_is_closed, flows_without_a_hash_are_spread])
