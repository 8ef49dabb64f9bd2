#!/usr/bin/env python3
"""Local users who mean no good: root's ip xfrm goes on, the daemon restarts, the log stays short.

Each attack runs as a user outside of the group that the configuration names, who cannot even
connect, and as a member of it without CAP_NET_ADMIN.
"""
import array
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import termios
import time

from xfrmd import LIBC, equal, holds, in_netns, main, wait_for

NOBODY, NOGROUP, ANOTHER = "65534", "65534", "65533"
CONFIG = "[daemon]\ngroup = nogroup\n"
# What tells a daemon that stands still (20 s and more, by SO_LINGER) from one that is busy.
STALL_S = 10
LINES_MAX = 20
WAIT_S = 60
TCP_REPAIR = 19
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207

# Given to the system's Python as text: the tree may be closed to others.
ATTACK = r"""
import array, errno, os, resource, signal, socket, struct, sys
case, path, lock = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
listener.bind(("127.0.0.1", 0))
listener.listen(1000)
kept = [listener]

def conn():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(path)
    return s

def lingering():
    # It cannot send what it has: nobody reads. Whoever closes it last waits for minutes.
    s = socket.create_connection(listener.getsockname())
    kept.append(listener.accept()[0])
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    s.setblocking(False)
    try:
        while True:
            s.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    return s

def send(s, data, fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([data], rights)

def linger():
    # Where ours is the last to be closed, this ends the wait.
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    hello = struct.pack("IHH", 0x5866726d, 1, 1)
    for i in range(50):
        s = conn()
        a, b, c = lingering(), lingering(), lingering()
        if i % 3 == 0:
            send(s, hello, [a.fileno(), b.fileno()])
        elif i % 3 == 1:  # more than there is room for
            send(s, b"x", [a.fileno(), b.fileno(), c.fileno()])
        else:
            send(s, b"x", [a.fileno()])
        for each in (a, b, c)[:2 + (i % 3 == 1) - (i % 3 == 2)]:
            os.close(each.detach())
        kept.extend((s, b, c))
    # The others of the group do not wait for ever either.
    s = conn()
    s.send(b"x")
    s.recv(16)

def flock():
    os.open(lock, os.O_RDONLY)

def silent():
    for _ in range(2000):
        kept.append(conn())

def hellos():
    for _ in range(10000):
        s = conn()
        try:
            s.send(b"garbage!")
        except OSError:
            pass
        s.close()

try:
    globals()[case]()
    print("done", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
sys.stdin.read()
"""


class Attack:
    """A case of the script above, until it is closed."""

    def __init__(self, net, case, gid, suffix, uid=NOBODY):
        self.process = subprocess.Popen(
            net.argv("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups",
                     "/usr/bin/python3", "-c", ATTACK, case, net.path(suffix), net.path("lock")),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def result(self):
        """The word that it says at its end."""
        equal(bool(select.select([self.process.stdout], [], [], WAIT_S)[0]), True)
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.kill()
        self.process.wait()


def root_is_served(net):
    """How long it took."""
    started = time.monotonic()
    done = net.xfrm("state", "count")
    equal((done.returncode, done.stderr), (0, ""))
    took = time.monotonic() - started
    equal(took < STALL_S, True)
    return took


def lines(net):
    return net.text().count("\n")


def withstand(netns, case, result="done"):
    """The case as a member: while it goes on, and after it, root is served; a restart works."""
    net = netns()
    net.start_with(CONFIG)
    before = lines(net)
    attack = Attack(net, case, NOGROUP, "group")
    try:
        worst = root_is_served(net)
        for _ in range(10):
            worst = max(worst, root_is_served(net))
        equal(attack.result(), result)
        for _ in range(5):
            worst = max(worst, root_is_served(net))
        equal(lines(net) - before <= LINES_MAX, True)
        equal(net.stop(), 0)
        net.start_with(CONFIG)
        worst = max(worst, root_is_served(net))
    finally:
        attack.close()
    print(f"# {case}: root waited {worst:.3f} s at most")
    return net


def outsiders_cannot_connect(netns):
    net = netns()
    net.start_with(CONFIG)
    for suffix in "sock", "group":
        for case in "linger", "silent", "hellos", "flock":
            attack = Attack(net, case, ANOTHER, suffix)
            try:
                equal((suffix, case, attack.result()), (suffix, case, "EACCES"))
            finally:
                attack.close()
    status = net.ask("status")["clients"]
    equal((status["accepted"], status["refused"]), (0, 0))
    root_is_served(net)


def without_a_group_there_is_no_second_socket(netns):
    net = netns()
    net.start()
    equal(os.path.exists(net.path("group")), False)
    equal(os.stat(net.path("sock")).st_mode & 0o777, 0o600)
    net.stop()
    net.start_with(CONFIG)
    mode = os.stat(net.path("group"))
    equal((mode.st_mode & 0o777, mode.st_uid, mode.st_gid), (0o660, 0, int(NOGROUP)))
    equal(os.stat(net.path("sock")).st_mode & 0o777, 0o600)
    net.stop(signal.SIGKILL)
    net.start()
    equal(os.path.exists(net.path("group")), False)


def descriptors_that_wait_stop_nobody(netns):
    withstand(netns, "linger")


def the_lock_is_roots(netns):
    net = withstand(netns, "flock", "EACCES")
    equal(os.stat(net.path("lock")).st_mode & 0o777, 0o600)
    # One that an earlier version made for everybody is not left so.
    net.stop()
    os.chmod(net.path("lock"), 0o644)
    net.start_with(CONFIG)
    equal(os.stat(net.path("lock")).st_mode & 0o777, 0o600)


def silent_connections_go(netns):
    net = withstand(netns, "silent")
    attack = Attack(net, "silent", NOGROUP, "group")
    try:
        equal(attack.result(), "done")

        def all_are_gone():
            return net.ask("status")["clients"]["refused"] >= 2000
        wait_for(all_are_gone, 20)
    finally:
        attack.close()


def bad_hellos_are_counted_not_told(netns):
    net = netns()
    net.start_with(CONFIG)
    before = lines(net)
    attack = Attack(net, "hellos", NOGROUP, "group")
    try:
        worst = max(root_is_served(net) for _ in range(20))
        equal(attack.result(), "done")

        def all_are_refused():
            return net.ask("status")["clients"]["refused"] >= 10000
        wait_for(all_are_refused, 20)
    finally:
        attack.close()
    print(f"# hellos: root waited {worst:.3f} s at most")
    equal(lines(net) - before <= LINES_MAX, True)
    holds(net.text(), "was refused: Protocol error")


def roots_own_silence_harms_nobody(netns):
    """Root has no quota: who has been silent longest makes room."""
    net = netns()
    net.start()
    attack = Attack(net, "silent", "0", "sock", "0")
    try:
        for _ in range(5):
            root_is_served(net)
        equal(attack.result(), "done")
        root_is_served(net)
    finally:
        attack.close()


class HeldUp:
    """The daemon's control thread does nothing for a while; its other threads go on."""

    def __init__(self, net):
        self.pid = net.daemon.pid

    def __enter__(self):
        equal(LIBC.ptrace(PTRACE_SEIZE, self.pid, None, None), 0)
        equal(LIBC.ptrace(PTRACE_INTERRUPT, self.pid, None, None), 0)
        equal(os.WIFSTOPPED(os.waitpid(self.pid, 0)[1]), True)

    def __exit__(self, *_):
        LIBC.ptrace(PTRACE_DETACH, self.pid, None, None)


def greeter_of(net):
    """Its directory in /proc."""
    tasks = f"/proc/{net.daemon.pid}/task"
    for tid in os.listdir(tasks):
        with open(f"{tasks}/{tid}/comm") as f:
            if f.read().strip() == "greeter":
                return f"{tasks}/{tid}"
    raise AssertionError("there is no greeter")


def descriptors(task):
    return len(os.listdir(f"{task}/fd"))


def watched(task):
    """How many descriptors are in the thread's epoll set."""
    found = 0
    for fd in os.listdir(f"{task}/fdinfo"):
        with open(f"{task}/fdinfo/{fd}") as f:
            found += sum(line.startswith("tfd:") for line in f)
    return found


def say_hello(net):
    """As a shim does; what waits for the welcome, and the client's end."""
    conn = in_netns(net, socket.AF_UNIX, socket.SOCK_SEQPACKET)
    conn.connect(net.path("sock"))
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    proof = in_netns(net, socket.AF_INET, socket.SOCK_STREAM)
    proof.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    conn.sendmsg([struct.pack("IHH", 0x5866726d, 1, 1)],
                 [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                   array.array("i", [far.fileno(), proof.fileno()]))])
    return conn, near


def who_has_passed_wakes_the_greeter_no_more(netns):
    """However long the control thread takes to close its descriptor of the connection."""
    net = netns()
    net.start()
    task = greeter_of(net)
    before = descriptors(task), watched(task)
    with HeldUp(net):
        conn, near = say_hello(net)

        def is_heard():
            left = array.array("i", [-1])
            fcntl.ioctl(conn, termios.TIOCOUTQ, left)
            return left[0] == 0

        def is_handed_on():
            return descriptors(task) == before[0]
        wait_for(is_heard)
        wait_for(is_handed_on)
        equal(watched(task), before[1])
    conn.settimeout(WAIT_S)
    magic, _, _, status = struct.unpack_from("IHHi", conn.recv(16))
    equal((magic, status), (0x5866726d, 0))
    near.close()


def what_dead_daemons_left_is_removed(netns):
    dead, stopped, running, other = netns(), netns(), netns(), netns()
    for net in dead, stopped, running:
        net.start()
    dead.stop(signal.SIGKILL)
    stopped.stop()
    inode = dead.inode()
    other.start()
    for suffix in "sock", "ctl", "lock":
        equal((suffix, os.path.exists(dead.path(suffix))), (suffix, False))
        equal((suffix, os.path.exists(running.path(suffix))), (suffix, True))
    equal(os.path.exists(stopped.path("lock")), False)
    # Policies are what protects a namespace that is still there.
    equal(os.path.exists(f"/run/xfrmd/{inode}.policies"), True)
    root_is_served(running)
    dead.start()
    root_is_served(dead)


main([
    outsiders_cannot_connect,
    without_a_group_there_is_no_second_socket,
    descriptors_that_wait_stop_nobody,
    the_lock_is_roots,
    silent_connections_go,
    bad_hellos_are_counted_not_told,
    roots_own_silence_harms_nobody,
    who_has_passed_wakes_the_greeter_no_more,
    what_dead_daemons_left_is_removed,
])
