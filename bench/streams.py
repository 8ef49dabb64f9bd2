#!/usr/bin/env python3
"""Many TCP streams at once, each between two addresses of its own: stream i is from FROM + i to
TO + i.

    streams.py receive COUNT SECONDS      prints how many bytes each stream brought, as JSON
    streams.py send COUNT FROM TO         until the receiver has enough
"""
import ipaddress
import json
import selectors
import socket
import sys
import time

PORT = 5300
CHUNK = 256 << 10
WAIT_S = 20


def accept_all(count):
    """{address: socket}"""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", PORT))
    listener.listen(count)
    listener.settimeout(WAIT_S)
    print("ready", flush=True)
    found = {}
    while len(found) < count:
        sock, peer = listener.accept()
        sock.setblocking(False)
        found[peer[0]] = sock
    return found


def receive(count, seconds):
    streams = accept_all(count)
    chosen = selectors.DefaultSelector()
    got = dict.fromkeys(streams, 0)
    room = bytearray(CHUNK)
    for address, sock in streams.items():
        chosen.register(sock, selectors.EVENT_READ, address)
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        for key, _ in chosen.select(0.1):
            got[key.data] += key.fileobj.recv_into(room)
    print(json.dumps({"bytes": list(got.values()), "seconds": now - start}))


def send(count, first_from, first_to):
    chosen = selectors.DefaultSelector()
    for i in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        sock.bind((str(ipaddress.ip_address(first_from) + i), 0))
        sock.settimeout(WAIT_S)
        sock.connect((str(ipaddress.ip_address(first_to) + i), PORT))
        sock.setblocking(False)
        chosen.register(sock, selectors.EVENT_WRITE)
    chunk = bytes(CHUNK)
    try:
        while True:
            for key, _ in chosen.select():
                key.fileobj.send(chunk)
    except (BrokenPipeError, ConnectionResetError):
        pass


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(int(sys.argv[2]), float(sys.argv[3]))
    else:
        send(int(sys.argv[2]), *sys.argv[3:5])
