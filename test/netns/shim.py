#!/usr/bin/env python3
"""Unmodified programs through xfrm-exec: what they see is what the kernel would show them."""
import os
import signal
import subprocess
import sys

import xfrmd
from xfrmd import EXEC, HERE, add_sa, equal, holds, main, wait_for

NOBODY = "65534"


def client(net, case, *args, **options):
    """A case of shim_client.py under xfrm-exec."""
    return net.run(EXEC, sys.executable, f"{HERE}/shim_client.py", case, *args, **options)


def passes(net, case, *args):
    done = client(net, case, *args)
    if done.returncode:
        raise AssertionError(f"{case}: {done.stdout}{done.stderr}")


def states_and_policies_come_and_go(netns):
    net = netns()
    net.start()
    equal(add_sa(net).returncode, 0)
    again = add_sa(net)
    equal((again.returncode, again.stderr.strip()), (2, "RTNETLINK answers: File exists"))
    holds(net.xfrm("state").stdout, "proto esp spi 0x00001000 reqid 1 mode tunnel")
    policy = ("src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out")
    equal(net.xfrm("policy", "add", *policy, "tmpl", "src", "192.0.2.1", "dst", "192.0.2.2",
                   "proto", "esp", "reqid", "1", "mode", "tunnel").returncode, 0)
    holds(net.xfrm("policy").stdout, "src 10.1.0.0/24 dst 10.2.0.0/24")
    equal(net.xfrm("policy", "delete", *policy).returncode, 0)
    equal(net.xfrm("policy").stdout, "")
    equal(net.xfrm("state", "deleteall").returncode, 0)
    equal(net.xfrm("state").stdout, "")
    missing = net.xfrm("state", "delete", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp",
                       "spi", "0x1000")
    equal(missing.returncode, 2)


def nothing_reaches_the_kernel(netns):
    net = netns()
    net.start()
    equal(add_sa(net).returncode, 0)
    unshimmed = net.run("ip", "xfrm", "state")
    if unshimmed.returncode == 0:
        equal(unshimmed.stdout, "")


def a_monitor_hears_of_others(netns):
    net = netns()
    net.start()
    monitor = subprocess.Popen(net.argv(EXEC, "ip", "xfrm", "monitor"), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: net.ask("status")["clients"]["now"] == 1)
        add_sa(net)
        net.xfrm("state", "flush")
        lines = [monitor.stdout.readline() for _ in range(2)]
        holds(lines[0], "src 192.0.2.1 dst 192.0.2.2")
        holds(lines[1], "spi 0x00001000")
    finally:
        monitor.kill()
        holds(monitor.communicate()[0], "Flushed state")


def without_a_daemon_there_is_a_sentence(netns):
    net = netns()
    done = net.xfrm("state")
    equal(done.returncode, 1)
    holds(done.stderr, "xfrm-exec: no xfrmd serves this network namespace (/run/xfrmd/"
                       f"{net.inode()}.sock)")
    holds(done.stderr, "Cannot open netlink socket: Protocol not supported")
    passes(net, "no_daemon")


def two_namespaces_have_two_daemons(netns):
    one, two = netns(), netns()
    one.start()
    two.start()
    add_sa(one, 0x1000)
    add_sa(two, 0x2000)
    holds(one.xfrm("state").stdout, "spi 0x00001000")
    holds(two.xfrm("state").stdout, "spi 0x00002000")
    equal(len(one.ask("sa")), 1)
    equal(len(two.ask("sa")), 1)


def the_daemon_of_another_namespace_is_refused(netns):
    """A path may be older than the namespace that has its number now."""
    one, two = netns(), netns()
    one.start()
    wrong = two.run("env", f"XFRMD_SOCKET={one.path('sock')}", EXEC, "ip", "xfrm", "state")
    equal(wrong.returncode, 1)
    holds(wrong.stderr, "belongs to another network namespace")
    equal(one.ask("status")["clients"]["refused"], 1)
    right = one.run("env", f"XFRMD_SOCKET={one.path('sock')}", EXEC, "ip", "xfrm", "state")
    equal(right.returncode, 0)


def a_daemon_that_lies_gets_no_keys(netns):
    """The shim checks the namespace that the daemon shows."""
    net = netns()
    passes(net, "liar")


def the_capability_counts_not_the_user(netns):
    """Of root, and of the members of the group; nobody else gets so far."""
    net = netns()
    net.start_with("[daemon]\ngroup = nogroup\n")
    # The file system may keep others out of the build directory: programs from the system only.
    library = net.run("cat", f"{xfrmd.BUILD}/src/shim/libxfrm-shim.so", text=False).stdout
    path = f"/tmp/{net.name}.so"
    try:
        with open(path, "wb") as copy:
            copy.write(library)
        os.chmod(path, 0o755)
        ip = ("env", f"LD_PRELOAD={path}", "ip", "xfrm", "state")
        nobody = net.run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *ip)
        equal(nobody.returncode, 1)
        holds(nobody.stderr, "XFRM needs CAP_NET_ADMIN")
        root = net.run("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", *ip)
        equal(root.returncode, 1)
        holds(root.stderr, "XFRM needs CAP_NET_ADMIN")
        welcome = net.run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                          "--inh-caps=+net_admin", "--ambient-caps=+net_admin", *ip)
        equal((welcome.returncode, welcome.stderr), (0, ""))
        stranger = net.run("setpriv", f"--reuid={NOBODY}", "--regid=65533", "--clear-groups",
                           "--inh-caps=+net_admin", "--ambient-caps=+net_admin", *ip)
        equal(stranger.returncode, 1)
        holds(stranger.stderr, "this user may not talk to xfrmd")
    finally:
        os.unlink(path)


def no_hello_without_proof(netns):
    net = netns()
    net.start()
    for case in ("hello_without_proof", "hello_with_plain_socket", "hello_of_garbage"):
        passes(net, case, net.path("sock"))
    equal(net.ask("status")["clients"]["accepted"], 0)
    equal(net.ask("status")["clients"]["refused"], 3)


def sending_is_synchronous(netns):
    """With one non-blocking read behind it, by every call that sends."""
    net = netns()
    net.start()
    passes(net, "synchronous")


def port_ids_are_the_kernels(netns):
    net = netns()
    net.start()
    passes(net, "portids")


def descriptors_are_copied_and_reused(netns):
    net = netns()
    net.start()
    passes(net, "descriptors")


def options_are_those_of_netlink(netns):
    net = netns()
    net.start()
    passes(net, "options")


def a_slow_reader_gets_enobufs(netns):
    net = netns()
    net.start()
    passes(net, "overflow")


def ike_sockets_bypass_by_mark(netns):
    net = netns()
    net.start()
    passes(net, "bypass", net.ask("status")["capture"]["mark_bypass"])


def garbage_does_no_harm(netns):
    net = netns()
    net.start()
    passes(net, "garbage")
    equal(add_sa(net).returncode, 0)


def a_client_may_die_in_the_middle_of_a_dump(netns):
    net = netns()
    net.start()
    batch = "".join(
        f"state add src 192.0.2.1 dst 192.0.2.2 proto esp spi {0x1000 + i} mode tunnel "
        "aead rfc4106(gcm(aes)) 0x0102030405060708090a0b0c0d0e0f1011121314 128\n".replace(
            "state add", "xfrm state add") for i in range(3000))
    done = net.run(EXEC, "ip", "-batch", "-", input=batch)
    equal((done.returncode, done.stderr), (0, ""))
    dumper = subprocess.Popen(net.argv(EXEC, sys.executable, f"{HERE}/shim_client.py",
                                       "dump_and_wait"), stdout=subprocess.PIPE, text=True)
    equal(dumper.stdout.readline(), "dumping\n")
    equal(net.ask("status")["clients"]["now"], 1)
    dumper.send_signal(signal.SIGKILL)
    dumper.wait()
    wait_for(lambda: net.ask("status")["clients"]["now"] == 0)
    equal(net.xfrm("state", "count").stdout.strip(), "SAD count 3000")
    equal(net.xfrm("state").stdout.count("proto esp"), 3000)


def a_daemon_that_dies_is_noticed(netns):
    net = netns()
    net.start()
    waiting = subprocess.Popen(net.argv(EXEC, sys.executable, f"{HERE}/shim_client.py", "survivor"),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    equal(waiting.stdout.readline(), "open\n")
    net.stop(signal.SIGKILL)
    # Not ETIMEDOUT, as after a wait for an answer.
    equal(waiting.communicate("go\n")[0], "ECONNREFUSED\n")
    net.start()
    equal(add_sa(net).returncode, 0)


def xfrm_exec_says_what_is_wrong(netns):
    net = netns()
    for args, status in (((), 2), (("--bogus",), 2), (("/nonexistent",), 127), (("/etc",), 126),
                         (("--help",), 0), (("true",), 0), (("false",), 1)):
        equal(net.run(EXEC, *args).returncode, status)


main([
    states_and_policies_come_and_go,
    nothing_reaches_the_kernel,
    a_monitor_hears_of_others,
    without_a_daemon_there_is_a_sentence,
    two_namespaces_have_two_daemons,
    the_daemon_of_another_namespace_is_refused,
    a_daemon_that_lies_gets_no_keys,
    the_capability_counts_not_the_user,
    no_hello_without_proof,
    sending_is_synchronous,
    port_ids_are_the_kernels,
    descriptors_are_copied_and_reused,
    options_are_those_of_netlink,
    a_slow_reader_gets_enobufs,
    ike_sockets_bypass_by_mark,
    garbage_does_no_harm,
    a_client_may_die_in_the_middle_of_a_dump,
    a_daemon_that_dies_is_noticed,
    xfrm_exec_says_what_is_wrong,
])
