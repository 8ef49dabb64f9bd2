#!/usr/bin/env python3
"""Transport mode in UDP behind a NAT that changes address and port, as L2TP uses it: UDP and TCP
arrive, though their checksums were computed over other addresses."""
import socket
import subprocess

from xfrmd import KEY, equal, in_netns, main, stream

CLIENT, NAT, SERVER = "10.0.1.2", "192.0.2.1", "192.0.2.2"


def link(a, dev_a, addr_a, b, dev_b, addr_b):
    subprocess.run(["ip", "link", "add", dev_a, "netns", a.name, "type", "veth", "peer", "name",
                    dev_b, "netns", b.name], check=True)
    for net, dev, addr in (a, dev_a, addr_a), (b, dev_b, addr_b):
        net.run("ip", "addr", "add", addr, "dev", dev, check=True)
        net.run("ip", "link", "set", dev, "up", check=True)


def end(net, here, there, out_spi, in_spi, ports):
    """SAs and policies at one end, which knows the other one as @there."""
    for src, dst, spi, sport, dport in ((here, there, out_spi, *ports),
                                        (there, here, in_spi, *ports[::-1])):
        net.xfrm("state", "add", "src", src, "dst", dst, "proto", "esp", "spi", spi, "reqid", "1",
                 "mode", "transport", "replay-window", "32", "aead", "rfc4106(gcm(aes))", KEY,
                 "128", "encap", "espinudp", sport, dport, "0.0.0.0", check=True)
    for direction, src, dst in ("out", here, there), ("in", there, here):
        net.xfrm("policy", "add", "src", src, "dst", dst, "dir", direction, "tmpl", "proto", "esp",
                 "reqid", "1", "mode", "transport", check=True)


def world(netns):
    client, nat, server = netns(), netns(), netns()
    link(client, "eth0", f"{CLIENT}/24", nat, "lan", "10.0.1.1/24")
    link(nat, "wan", f"{NAT}/24", server, "eth0", f"{SERVER}/24")
    client.run("ip", "route", "add", "default", "via", "10.0.1.1", check=True)
    nat.run("sysctl", "-qw", "net.ipv4.ip_forward=1", check=True)
    nat.run("nft", "-f", "-", check=True, input="""
        table ip nat {
            chain post {
                type nat hook postrouting priority 100
                ip protocol udp oifname "wan" masquerade to :40000
            }
        }""")
    client.start()
    server.start()
    end(client, CLIENT, SERVER, "0x11", "0x12", ("4500", "4500"))
    end(server, SERVER, NAT, "0x12", "0x11", ("4500", "40000"))
    return client, server


def echo(client, server, size):
    far = in_netns(server, socket.AF_INET, socket.SOCK_DGRAM)
    far.settimeout(20)
    far.bind((SERVER, 1701))
    near = in_netns(client, socket.AF_INET, socket.SOCK_DGRAM)
    near.settimeout(20)
    near.bind((CLIENT, 1701))
    near.sendto(bytes(range(256)) * size, (SERVER, 1701))
    data, sender = far.recvfrom(65535)
    equal(sender, (NAT, 1701))
    far.sendto(data, sender)
    equal(near.recv(65535), bytes(range(256)) * size)
    near.close()
    far.close()


def datagrams(netns):
    client, server = world(netns)
    echo(client, server, 1)
    # Too long for one packet: put together before it is decrypted.
    echo(client, server, 16)


def connections(netns):
    client, server = world(netns)
    stream(client, server, (CLIENT, SERVER), 8 << 20)


main([datagrams, connections])
