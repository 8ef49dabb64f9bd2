#!/usr/bin/env python3
"""The blocks of docs/firewall.md, run on a gateway with a tunnel: what the page claims holds."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import nat_table
import xfrmd
from xfrmd import equal, wait_for

PAGE = os.path.join(xfrmd.HERE, "../../docs/firewall.md")
BLOCK = re.compile(r"<!-- run: (.*?) -->\n```\n(.*?)```\n", re.S)
FAR = {"4": "10.0.2.2", "6": "fd02::2"}
INTERNET = {"4": "203.0.113.2", "6": "2001:db8:1::2"}
CLAIMS = {"flows", "lost", "lost4", "internet"}


def blocks():
    with open(PAGE) as f:
        text = f.read()
    found = BLOCK.findall(text)
    # Every block is run.
    equal(len(found), text.count("\n```\n") // 2)
    return found


def ping(net, addr):
    """How many of three come back."""
    done = net.run("ping", "-n", "-q", "-c", "3", "-i", "0.02", "-W", "1", addr)
    return int(done.stdout.split(" received")[0].split()[-1])


def tidy(world):
    """Take away what a block may have left on g1."""
    g1 = world.g1
    for line in g1.run("nft", "list", "tables", check=True).stdout.splitlines():
        _, family, name = line.split()
        if name != "xfrmd":
            g1.run("nft", "delete", "table", family, name, check=True)
    g1.run("ip", "rule", "del", "pref", "1000")
    g1.run("ip", "route", "flush", "table", "100")
    g1.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.lan.rp_filter=0",
           check=True)


def wait_for_pings(world, addrs):
    def all_flow():
        return all(ping(world.h1, addr) for addr in addrs.values())
    wait_for(all_flow, 20)


def check_claim(world, claims, before):
    if "flows" in claims:
        wait_for_pings(world, FAR)
    if "internet" in claims:
        wait_for_pings(world, INTERNET)
    for family in "46":
        if "lost" in claims or "lost" + family in claims:
            equal(ping(world.h1, FAR[family]), 0)
    found = {item["id"] for item in findings(world)}
    equal(found, {claim[6:] for claim in claims if claim.startswith("finds=")})
    for claim in claims:
        if claim.startswith("counts="):
            connect(world)
            stats = world.g1.ask("stats")
            name = claim[7:]
            if not {**stats["engine"], **stats["capture"]}[name] > before[name]:
                raise AssertionError(f"{name} did not grow")
    equal(world.clear(), 0)


def findings(world):
    return json.loads(world.g1.ctl("check", "--json").stdout)


def connect(world):
    """A TCP connection through the tunnel; the servers of World answer with what they see."""
    s = xfrmd.in_netns(world.h1, nat_table.family_of(FAR["4"]), nat_table.socket.SOCK_STREAM)
    s.settimeout(30)
    s.connect((FAR["4"], nat_table.PORT))
    equal(s.recv(64).split()[0], b"10.0.1.2")
    s.close()


def run_block(world, claims, script, directory):
    claims = set(claims.split())
    unknown = {claim for claim in claims if "=" not in claim} - CLAIMS
    equal(unknown, set())
    stats = world.g1.ask("stats")
    before = {**stats["engine"], **stats["capture"]}
    subprocess.run(world.g1.argv("env", f"DIR={directory}", "sh", "-e"), input=script, text=True,
                   check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    check_claim(world, claims, before)


def the_page_is_true(netns):
    world = nat_table.World(netns)
    world.tunnel()
    wait_for_pings(world, FAR)
    wait_for_pings(world, INTERNET)
    equal(findings(world), [])
    directory = tempfile.mkdtemp()
    try:
        for claims, script in blocks():
            try:
                run_block(world, claims, script, directory)
            except Exception as error:
                raise AssertionError(f"{claims}: {error} after:\n{script}") from error
            tidy(world)
            wait_for_pings(world, FAR)
    finally:
        shutil.rmtree(directory)


xfrmd.main([the_page_is_true])
