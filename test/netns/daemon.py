#!/usr/bin/env python3
"""xfrmd as a service, and xfrmctl: start, stop, limits, privileges, what it shows."""
import json
import os
import re
import signal
import socket
import subprocess
import time

from xfrmd import DAEMON, EXEC, add_sa, equal, holds, main, wait_for

CAPABILITIES = {"net_bind_service": 10, "net_admin": 12, "net_raw": 13, "ipc_lock": 14,
                "perfmon": 38, "bpf": 39}


def config(net, text):
    path = f"/tmp/{net.name}.conf"
    with open(path, "w") as f:
        f.write(text)
    return path


def status_field(net, name):
    with open(f"/proc/{daemon_pid(net)}/status") as f:
        return re.search(rf"^{name}:\s*(\S+)", f.read(), re.M)[1]


def daemon_pid(net):
    return net.ask("status")["pid"]


def one_daemon_for_a_namespace(netns):
    net = netns()
    net.start()
    second = net.run(DAEMON)
    equal(second.returncode, 1)
    holds(second.stderr, f"another xfrmd serves this network namespace (/run/xfrmd/{net.inode()}"
                         ".lock)")
    equal(net.stop(), 0)
    net.start()


def protection_outlives_the_daemon(netns):
    net = netns()
    net.start()
    equal(net.stop(), 0)
    equal(os.path.exists(net.path("sock")), False)
    equal(net.run("ip", "link", "show", "xfrmd0").returncode, 0)
    holds(net.run("nft", "list", "tables").stdout, "inet xfrmd")
    net.start()
    net.stop(signal.SIGKILL)
    equal(net.run("ip", "link", "show", "xfrmd0").returncode, 0)
    holds(net.run("nft", "list", "tables").stdout, "inet xfrmd")
    # Without a daemon too it can be taken away.
    equal(net.ctl("release").returncode, 0)
    equal(net.run("ip", "link", "show", "xfrmd0").returncode, 1)
    equal(net.run("nft", "list", "tables").stdout, "")


def policies_outlive_a_crash(netns):
    net = netns()
    net.start()
    net.xfrm("policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out", "tmpl",
             "proto", "esp", "mode", "transport")
    before = net.xfrm("policy").stdout
    holds(before, "src 10.1.0.0/24 dst 10.2.0.0/24")
    net.stop(signal.SIGKILL)
    net.start()
    equal(net.xfrm("policy").stdout, before)
    equal(net.ctl("release").returncode, 0)
    equal(net.daemon.wait(timeout=60), 0)
    net.stop()
    net.start()
    equal(net.xfrm("policy").stdout, "")


def release_stops_the_daemon(netns):
    net = netns()
    net.start()
    done = net.ctl("release")
    equal((done.returncode, done.stdout), (0, "released: traffic flows in clear\n"))
    equal(net.daemon.wait(timeout=60), 0)
    net.daemon = None
    equal(net.run("ip", "link", "show", "xfrmd0").returncode, 1)
    equal(net.run("nft", "list", "tables").stdout, "")
    holds(net.run("ip", "rule").stdout, "main")
    if "0x40000000" in net.run("ip", "rule").stdout:
        raise AssertionError("the rule is still there")


def nothing_is_shown_after_a_release(netns):
    """What would be shown has gone by then."""
    net = netns()
    net.start()
    answers = talk(net, b'{"verb":"release"}\n{"verb":"status"}\n{"verb":"stats"}\n')
    equal(answers[0]["ok"], True)
    equal([answer.get("error") for answer in answers[1:]], ["xfrmd is stopping"] * 2)
    equal(net.daemon.wait(timeout=60), 0)
    net.daemon = None


def what_xfrmctl_shows(netns):
    net = netns()
    net.start()
    add_sa(net, 0x1234)
    net.xfrm("policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "proto", "udp", "dport",
             "53", "dir", "out", "priority", "7", "tmpl", "src", "192.0.2.1", "dst", "192.0.2.2",
             "proto", "esp", "reqid", "1", "mode", "tunnel")
    status = net.ask("status")
    equal(status["sas"], 1)
    equal(status["policies"], {"in": 0, "out": 1, "fwd": 0})
    equal(status["netns"], net.inode())
    sa, = net.ask("sa")
    equal((sa["src"], sa["dst"], sa["spi"], sa["mode"], sa["state"]),
          ("192.0.2.1", "192.0.2.2", "0x00001234", "tunnel", "valid"))
    equal(sa["suite"], "gcm128-16")
    policy, = net.ask("policy")
    equal((policy["dir"], policy["action"], policy["priority"]), ("out", "allow", 7))
    equal(policy["selector"]["dport"], {"value": 53, "mask": 65535})
    equal(policy["templates"][0]["dst"], "192.0.2.2")
    stats = net.ask("stats")
    equal(list(stats["xfrm_stat"])[:2], ["XfrmInError", "XfrmInBufferError"])
    equal(stats["engine"]["lin_copies"], 0)
    clients = ", ".join(f"{value} {name}" for name, value in status["clients"].items())
    for verb, part in (("status", "SAs       1"), ("status", f"clients   {clients}\n"),
                       ("sa", "spi 0x00001234"),
                       ("policy", "10.1.0.0/24 -> 10.2.0.0/24 proto 17 dport 53"),
                       ("stats", "XfrmInNoStates")):
        done = net.ctl(verb)
        equal((done.returncode, done.stderr), (0, ""))
        holds(done.stdout, part)


def keys_are_shown_only_when_asked_for(netns):
    net = netns()
    net.start()
    add_sa(net)
    key = "0102030405060708090a0b0c0d0e0f1011121314"
    for args in (("sa",), ("sa", "--json"), ("policy",), ("status", "--json"), ("stats",)):
        if key in net.ctl(*args).stdout:
            raise AssertionError(f"a key in xfrmctl {args}")
    holds(net.ctl("sa", "--keys").stdout, key)
    equal(net.ask("sa", "--keys")[0]["aead"]["key"], f"0x{key}")
    net.stop()
    if key in net.text():
        raise AssertionError("a key in the log")


def long_lists_come_page_by_page(netns):
    net = netns()
    net.start()
    spis = [0x1000 + i for i in range(700)]
    batch = "".join(f"xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi {spi} mode tunnel "
                    "aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128\n"
                    for spi in spis)
    equal(net.run(EXEC, "ip", "-batch", "-", input=batch).returncode, 0)
    equal(sorted(int(sa["spi"], 0) for sa in net.ask("sa")), spis)
    equal(net.ctl("sa").stdout.count("rfc4106"), len(spis))


def bad_words_for_xfrmctl(netns):
    net = netns()
    for args in ((), ("nonsense",), ("status", "--nonsense"), ("status", "sa"),
                 ("status", "--socket"), ("stats", "--keys"), ("-j",)):
        done = net.ctl(*args)
        equal((args, done.returncode, done.stdout), (args, 2, ""))
    equal(net.ctl("--help").returncode, 0)
    done = net.ctl("status")
    equal(done.returncode, 1)
    holds(done.stderr, "xfrmctl: no xfrmd serves this network namespace")


def talk(net, data):
    """Bytes to the control socket; all that comes back."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(60)
    sock.connect(net.path("ctl"))
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
    answer = b""
    while chunk := sock.recv(65536):
        answer += chunk
    return [json.loads(line) for line in answer.splitlines()]


def bad_words_on_the_control_socket(netns):
    net = netns()
    net.start()
    for request, error in ((b"nonsense", "not valid JSON"), (b"[]", "not a JSON object"),
                           (b"{}", 'no "verb"'), (b'{"verb":1}', 'no "verb"'),
                           (b'{"verb":"fly"}', "no such verb"), (b"", "not valid JSON"),
                           (b'{"verb":"sa","verb":"sa"}', "not valid JSON"),
                           (b'{"verb":"sa","limit":0}', '"limit"'),
                           (b'{"verb":"sa","limit":1025}', '"limit"'),
                           (b'{"verb":"sa","cursor":"x"}', '"cursor"'),
                           (b"[" * 3000, "not valid JSON"), (b"\xff\x00\xfe", "not valid JSON")):
        answer, = talk(net, request + b"\n")
        equal(answer["ok"], False)
        holds(answer["error"], error)
    # Too long for a request: the connection ends, and others go on.
    equal(talk(net, b"x" * 4096), [])
    # Several at once.
    two = talk(net, b'{"verb":"status"}\n{"verb":"stats"}\n')
    equal([answer["ok"] for answer in two], [True, True])
    mode = os.stat(net.path("ctl")).st_mode & 0o777
    equal(mode, 0o600)


def check_says_what_is_wrong(netns):
    net = netns()
    good = config(net, "[daemon]\nworkers = 2\n")
    done = net.run(DAEMON, "--config", good, "--check")
    equal((done.returncode, done.stdout), (0, "xfrmd: the configuration is good\n"))
    bad = config(net, "[daemon]\nworkers = many\n")
    done = net.run(DAEMON, "--check", "--config", bad)
    equal((done.returncode, done.stderr),
          (2, f'xfrmd: {bad}:2: workers must be a number from 1 to 64, not "many"\n'))
    equal(net.run(DAEMON, "--config", bad).returncode, 2)
    os.unlink(bad)
    equal(net.run(DAEMON, "--config", bad, "--check").returncode, 2)
    equal(net.run(DAEMON, "--nonsense").returncode, 2)
    equal(net.run(DAEMON, "nonsense").returncode, 2)


def several_workers_and_another_tun(netns):
    net = netns()
    path = config(net, "[daemon]\nworkers = 3\n[capture]\ntun = ipsec7\n")
    try:
        net.start("--config", path)
        status = net.ask("status")
        equal(status["workers"], 3)
        # Of each of the three queues.
        equal([status["capture"][f"tun_{what}"] for what in ("marks", "tso", "steering")],
              [True, True, True])
        holds(net.ctl("status").stdout, "tun       marks yes, TSO yes, USO ")
        equal(net.run("ip", "link", "show", "ipsec7").returncode, 0)
        equal(net.ctl("release", "--config", path).returncode, 0)
        equal(net.run("ip", "link", "show", "ipsec7").returncode, 1)
    finally:
        os.unlink(path)


def no_more_clients_than_configured(netns):
    net = netns()
    path = config(net, "[daemon]\nmax_clients = 3\n")
    try:
        net.start("--config", path)
        script = ("import socket, sys\n"
                  "keep = [socket.socket(16, 3, 6) for _ in range(2)]\n"
                  "try:\n    keep += [socket.socket(16, 3, 6) for _ in range(2)]\n"
                  "except OSError as error:\n    sys.exit(error.errno)\n")
        full = net.run(EXEC, "python3", "-c", script)
        equal(full.returncode, 93)  # EPROTONOSUPPORT
        holds(full.stderr, "Too many open files")
        wait_for(lambda: net.ask("status")["clients"]["now"] == 0)
        equal(net.xfrm("state").returncode, 0)
    finally:
        os.unlink(path)


def it_runs_with_few_capabilities(netns):
    net = netns()
    net.start()
    allowed = sum(1 << bit for bit in CAPABILITIES.values())
    for field in ("CapEff", "CapPrm", "CapBnd", "CapInh"):
        extra = int(status_field(net, field), 16) & ~allowed
        equal((field, extra), (field, 0))
    equal(status_field(net, "NoNewPrivs"), "1")
    # With them, rules still follow the policies.
    net.xfrm("policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out", "tmpl",
             "proto", "esp", "mode", "transport")
    holds(net.run("nft", "list", "table", "inet", "xfrmd").stdout, "10.2.0.0/24")


def keys_are_locked_and_not_dumped(netns):
    with open(DAEMON, "rb") as f:
        if b"__asan_init" in f.read():
            return  # AddressSanitizer makes mlock() do nothing
    net = netns()
    net.start()
    add_sa(net)
    locked = net.ask("status")["locked_bytes"]
    equal(int(status_field(net, "VmLck")) * 1024 >= locked, True)
    with open(f"/proc/{daemon_pid(net)}/smaps") as f:
        flags = [line.split()[1:] for line in f if line.startswith("VmFlags:")]
    equal(any({"lo", "dd"} <= set(each) for each in flags), True)
    equal(any("lo" in each and "dd" not in each for each in flags), False)


def systemd_is_told(netns):
    net = netns()
    path = f"/tmp/{net.name}.notify"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    sock.settimeout(60)
    os.environ["NOTIFY_SOCKET"] = path
    os.environ["WATCHDOG_USEC"] = "400000"
    try:
        net.start()
        equal(sock.recv(100), b"READY=1")
        for _ in range(3):
            equal(sock.recv(100), b"WATCHDOG=1")
        equal(net.stop(), 0)
        last = b""
        while last != b"STOPPING=1":
            last = sock.recv(100)
    finally:
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
        sock.close()
        os.unlink(path)


def lifetimes_end_by_themselves(netns):
    net = netns()
    net.start()
    monitor = subprocess.Popen(net.argv(EXEC, "ip", "xfrm", "monitor", "expire"),
                               stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: net.ask("status")["clients"]["now"] == 1)
        started = time.monotonic()
        done = net.xfrm("state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp",
                        "spi", "0x77", "mode", "tunnel", "auth", "hmac(sha256)", "0x" + "11" * 32,
                        "enc", "ecb(cipher_null)", "", "limit", "time-hard", "2")
        equal((done.returncode, done.stderr), (0, ""))
        wait_for(lambda: net.ask("sa") == [])
        equal(time.monotonic() - started > 1, True)
        holds(monitor.stdout.readline(), "src 192.0.2.1 dst 192.0.2.2")
    finally:
        monitor.kill()
        monitor.wait()


def allocspi(net, spi):
    """An SPI; how many seconds its larval SA has."""
    ends = "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp"
    net.xfrm("state", "allocspi", *ends, "mode", "tunnel", "min", spi, "max", spi, check=True)
    shown = net.run(EXEC, "ip", "-s", "xfrm", "state", "get", *ends, "spi", spi, check=True).stdout
    return int(re.search(r"expire add: soft 0\(sec\), hard (\d+)\(sec\)", shown)[1])


def an_spi_waits_as_long_as_the_namespace_says(netns):
    net = netns()
    setting = "/proc/sys/net/core/xfrm_acq_expires"
    if net.run("test", "-e", setting).returncode:
        print("# not tested: this kernel has no xfrm_acq_expires", flush=True)
        return

    def write(seconds):
        net.run("sh", "-c", f"echo {seconds} >{setting}", check=True)

    write(77)
    net.start()
    equal(allocspi(net, "0x100"), 77)
    # As charon does, when the daemon runs already.
    write(165)
    equal(allocspi(net, "0x101"), 165)
    equal(allocspi(net, "0x102"), 165)
    net.stop()
    net.start_with("[engine]\nacquire_lifetime = 9\n")
    equal(allocspi(net, "0x103"), 9)


def tunnel(one, two):
    """A wire between the two, hosts behind it on loopback, a tunnel for them."""
    subprocess.run(["ip", "link", "add", "wire", "netns", one.name, "type", "veth", "peer", "name",
                    "wire", "netns", two.name], check=True)
    ends = ((one, "1", "2"), (two, "2", "1"))
    for net, mine, its in ends:
        net.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0", check=True)
        net.run("ip", "addr", "add", f"192.0.2.{mine}/24", "dev", "wire", check=True)
        net.run("ip", "link", "set", "wire", "up", check=True)
        net.run("ip", "addr", "add", f"10.{mine}.0.1/32", "dev", "lo", check=True)
        net.run("ip", "route", "add", f"10.{its}.0.0/24", "via", f"192.0.2.{its}", "src",
                f"10.{mine}.0.1", check=True)
        net.start()
    for net, mine, its in ends:
        for src, dst, spi in (("1", "2", "0x1000"), ("2", "1", "0x2000")):
            equal(net.xfrm("state", "add", "src", f"192.0.2.{src}", "dst", f"192.0.2.{dst}",
                           "proto", "esp", "spi", spi, "reqid", "1", "mode", "tunnel",
                           "replay-window", "32", "aead", "rfc4106(gcm(aes))",
                           f"0x{src * 40}", "128").returncode, 0)
        for direction, src, dst in (("out", mine, its), ("in", its, mine)):
            equal(net.xfrm("policy", "add", "src", f"10.{src}.0.0/24", "dst", f"10.{dst}.0.0/24",
                           "dir", direction, "tmpl", "src", f"192.0.2.{src}", "dst",
                           f"192.0.2.{dst}", "proto", "esp", "reqid", "1", "mode",
                           "tunnel").returncode, 0)


def packets_cross_a_tunnel(netns):
    one, two = netns(), netns()
    tunnel(one, two)
    for size in ("56", "8000"):
        for _ in range(3):
            ping = one.run("ping", "-c", "1", "-W", "60", "-s", size, "10.2.0.1")
            holds(ping.stdout, " 0% packet loss")
    for net in (one, two):
        stats = net.ask("stats")
        equal((stats["engine"]["out_packets"], stats["engine"]["in_packets"]), (6, 6))
        equal(sum(stats["xfrm_stat"].values()), 0)
    # With the peer's daemon gone nothing comes back, and nothing goes in clear.
    two.stop()
    equal(one.run("ping", "-c", "1", "-W", "1", "10.2.0.1").returncode, 1)


main([
    one_daemon_for_a_namespace,
    protection_outlives_the_daemon,
    policies_outlive_a_crash,
    release_stops_the_daemon,
    nothing_is_shown_after_a_release,
    what_xfrmctl_shows,
    keys_are_shown_only_when_asked_for,
    long_lists_come_page_by_page,
    bad_words_for_xfrmctl,
    bad_words_on_the_control_socket,
    check_says_what_is_wrong,
    several_workers_and_another_tun,
    no_more_clients_than_configured,
    it_runs_with_few_capabilities,
    keys_are_locked_and_not_dumped,
    systemd_is_told,
    lifetimes_end_by_themselves,
    an_spi_waits_as_long_as_the_namespace_says,
    packets_cross_a_tunnel,
])
