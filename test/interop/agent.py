#!/usr/bin/env python3
"""The traffic of the interop matrix, on both sides.

  agent.py serve [--encap]    TCP server on port 7700; --encap: and UDP port 4500 for ESP (RFC 3948)
  agent.py transfer HOST      send bytes, receive bytes, compare checksums; exit status 0: same
  agent.py wake DEVICE        send a frame that nobody takes twice a second

The network driver of user-mode-linux now and then sleeps over a frame until the next one comes:
of 107,000 plain datagrams, without any IPsec, 8 lay there for seconds. A ping that is alone on the
wire would be lost by that.
"""
import hashlib
import socket
import sys
import threading
import time

PORT, ENCAP_PORT = 7700, 4500
SIZE = 200_000
UDP_ENCAP, UDP_ENCAP_ESPINUDP = 100, 2
IP_XFRM_POLICY = 17
LIMIT = 60  # seconds
ETH_P_EXPERIMENT = 0x88b5
WAKE = 0.5  # seconds


def pattern(seed):
    """SIZE bytes that do not repeat, so that a lost, doubled or swapped piece is seen."""
    blocks = (hashlib.sha512(f"{seed} {n}".encode()).digest() for n in range(SIZE // 64 + 1))
    return b"".join(blocks)[:SIZE]


def receive(conn, count):
    parts = []
    while count:
        part = conn.recv(min(count, 1 << 16))
        if not part:
            raise ConnectionError(f"closed, {count} bytes short")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def answer(conn, down):
    with conn:
        conn.settimeout(LIMIT)
        try:
            conn.sendall(hashlib.sha256(receive(conn, SIZE)).digest())
            conn.sendall(down)
        except OSError:
            pass  # the other side says what went wrong


def bypass(direction):
    """struct xfrm_userpolicy_info: allow everything of one address family in one direction."""
    policy = bytearray(168)
    policy[40:42] = socket.AF_INET.to_bytes(2, sys.byteorder)
    policy[160] = direction
    return bytes(policy)


def encap_socket():
    """As an IKE daemon has it. Without the bypass, a policy for all traffic between the two
    addresses drops the UDP packets before ESP is seen in them."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for direction in (0, 1):
        sock.setsockopt(socket.IPPROTO_IP, IP_XFRM_POLICY, bypass(direction))
    sock.bind(("", ENCAP_PORT))
    sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
    return sock


def serve(encap):
    holder = encap_socket() if encap else None  # noqa: F841 - open as long as the agent runs
    down = pattern("down")
    listener = socket.create_server(("", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=answer, args=(conn, down), daemon=True).start()


def transfer(host):
    up, down = pattern("up"), pattern("down")
    with socket.create_connection((host, PORT), timeout=LIMIT) as conn:
        conn.settimeout(LIMIT)
        conn.sendall(up)
        if receive(conn, 32) != hashlib.sha256(up).digest():
            return "what was sent arrived changed"
        if receive(conn, SIZE) != down:
            return "what was received is changed"
    return None


def wake(device):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    while True:
        sock.sendto(bytes(46), (device, ETH_P_EXPERIMENT, 0, 0, b"\xff" * 6))
        time.sleep(WAKE)


def main(argv):
    if len(argv) == 2 and argv[0] == "wake":
        wake(argv[1])
    if argv[:1] == ["serve"]:
        serve("--encap" in argv)
    if argv[:1] != ["transfer"] or len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fault = transfer(argv[1])
    except OSError as err:
        fault = str(err)
    if fault:
        print(f"tcp: {fault}")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
