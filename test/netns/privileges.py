#!/usr/bin/env python3
"""What each thread of a running daemon may do: exactly what src/daemon/thread/privs.h says."""
import os
import re
import select
import subprocess

from xfrmd import DAEMON, ESP_IN_UDP, equal, gateways, holds, main, stream, wire

CAPS = {"net_bind_service": 10, "net_admin": 12, "net_raw": 13, "ipc_lock": 14, "perfmon": 38,
        "bpf": 39}
ADDRS = "10.1.0.1", "10.2.0.1"
# Would a mark on a datagram be refused with CAP_NET_RAW alone? Linux before 6.4 does.
PROBE = ("import socket, struct\n"
         "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
         "try: s.sendmsg([b''], [(1, 36, struct.pack('I', 1))], 0, ('127.0.0.1', 9))\n"
         "except PermissionError: print('refused')\n")


def mask(*names):
    return sum(1 << CAPS[name] for name in names)


def sanitized():
    with open(DAEMON, "rb") as f:
        return b"__asan_init" in f.read()


def tasks(net):
    """Of each thread: its name, and the fields of its status."""
    found = []
    for tid in sorted(os.listdir(f"/proc/{net.daemon.pid}/task"), key=int):
        with open(f"/proc/{net.daemon.pid}/task/{tid}/status") as f:
            fields = dict(re.findall(r"^(\w+):\s*(.*)$", f.read(), re.M))
        found.append((fields["Name"], fields))
    return found


def worker_mask(net):
    done = net.run("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all", "python3", "-c",
                   PROBE, check=True)
    return mask("net_admin" if "refused" in done.stdout else "net_raw")


def each_thread_has_what_the_table_says(netns):
    net = netns()
    net.start_with("[daemon]\nworkers = 3\n[crypto]\nthreads = 2\n")
    want = {"xfrmd": mask(*CAPS), "worker": worker_mask(net), "crypto": 0, "greeter": 0}
    found = [task for task in tasks(net) if not (sanitized() and task[0] not in want)]
    equal(sorted(name for name, _ in found),
          ["crypto"] * 2 + ["greeter"] + ["worker"] * 3 + ["xfrmd"])
    for name, fields in found:
        for field in "CapEff", "CapPrm":
            equal((name, field, int(fields[field], 16)), (name, field, want[name]))
        for field in "CapBnd", "CapInh", "CapAmb":
            equal((name, field, int(fields[field], 16)), (name, field, 0))
        equal((name, fields["NoNewPrivs"], fields["Seccomp"]), (name, "1", "2"))


def traffic_passes_with_them(netns):
    """By each way in and out, with marks that are asked for at each send, and crypto threads."""
    for encap, config in ((), "[daemon]\nworkers = 2\n"), (ESP_IN_UDP, "[crypto]\nthreads = 1\n"
                                                          "suites = all\n"):
        near, far = wire(netns)
        for net in near, far:
            net.start_with(config)
        gateways(near, far, ADDRS, encap)
        done = near.xfrm("state", "update", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp",
                         "spi", "0x1000", "reqid", "1", "mode", "tunnel", "flag", "af-unspec",
                         "replay-window", "32", "aead", "rfc4106(gcm(aes))",
                         "0x0102030405060708090a0b0c0d0e0f1011121314", "128", *encap,
                         "output-mark", "0x17")
        equal((done.returncode, done.stderr), (0, ""))
        stream(near, far, ADDRS, 2 << 20)
        equal(near.ask("stats")["xfrm_stat"]["XfrmdOutSendError"], 0)
        for net in near, far:
            equal(net.daemon.poll(), None)


def what_is_missing_is_said(netns):
    """Started with two capabilities it runs, and says what it does without: log and status."""
    net = netns()
    plain = net.argv
    net.argv = lambda *args: plain(*(("setpriv", "--bounding-set=-all,+net_admin,+net_raw")
                                     if args[0] == DAEMON else ()), *args)
    net.start_with("[daemon]\nworkers = 2\n")
    missing = net.ask("status")["missing"]
    words = ["no backstop", "no marks", "no steering", "no CAP_NET_BIND_SERVICE"]
    # Locked memory ends somewhere or not, as the limits of this machine are.
    equal([text[:len(word)] for text, word in zip(missing, words)], words)
    text = net.text()
    for each in missing:
        equal(text.count(f"xfrmd: {each}\n"), 1)
        holds(net.ctl("status").stdout, f"missing   {each}\n")
    # Nothing is, for one that has all.
    whole = netns()
    whole.start_with("[daemon]\nworkers = 2\n")
    equal(whole.ask("status")["missing"], [])
    equal("second layer" in whole.text(), False)


def a_kernel_that_tells_no_types(netns):
    """Without BTF there are no links at netfilter's hooks, and nobody sees NAT; the rest stands."""
    net, _ = wire(netns)
    plain = net.argv
    net.argv = lambda *args: plain(*(("sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && '
                                      'exec "$@"', "sh") if args[0] == DAEMON else ()), *args)
    net.start()
    status = net.ask("status")
    capture = status["capture"]
    equal((capture["backstop"], capture["backstop_devices"], capture["twin"]), (True, 1, "tc"))
    sentence = "no sight of the host's NAT"
    equal([text[:len(sentence)] for text in status["missing"]], [sentence])
    text = net.text()
    equal(text.count(f"xfrmd: {sentence}"), 1)
    equal(text.count("xfrmd: the second layer against plaintext is tc: "), 1)
    check = net.ctl("check")
    equal(check.returncode, 1)
    holds(check.stdout, sentence)


def nothing_is_inherited(netns):
    net = netns()
    read, write = os.pipe()
    os.set_inheritable(write, True)
    log = open(f"/tmp/{net.name}.log", "a+")
    net.log = log
    net.daemon = subprocess.Popen(net.argv(DAEMON), stderr=log, stdout=log, close_fds=False)
    os.close(write)
    # An end of file comes when the daemon, too, has closed what writes.
    equal(select.select([read], [], [], 20)[0], [read])
    equal(os.read(read, 1), b"")
    os.close(read)
    equal(net.daemon.poll(), None)


main([
    each_thread_has_what_the_table_says,
    traffic_passes_with_them,
    what_is_missing_is_said,
    a_kernel_that_tells_no_types,
    nothing_is_inherited,
])
