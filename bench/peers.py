"""The group "peers": one TCP stream through xfrmd and through other tunnels in user space.

Each peer with the settings that suit it best: no compression, AES-128-GCM (WireGuard has a cipher
of its own), MTU 1400 and a queue of 1000 on its TUN, large socket buffers where it can ask for
them; and as all paths, one core for each end. Nothing is installed here: "make bench-deps" does it.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

import measure
from paths import CORES, Ends, Path, close_all, make_netns, spawn
from rows import collect, failures, rows_of

PLUGINS = "/usr/lib/ipsec/plugins/libstrongswan-{}.so"
STRONGSWAN = ("random nonce aesni openssl hmac kdf kernel-libipsec kernel-netlink socket-default "
              "vici")
BUFFER = str(4 << 20)
START_S = 20


class Peer(Ends):
    """A wire with another program at both ends; files are in a folder that goes away."""

    def __init__(self, name):
        from xfrmd import wire
        super().__init__(name, *wire(make_netns))
        self.folder = tempfile.TemporaryDirectory(prefix="xfrmd-bench-")
        self.bring_up()
        self.serve()
        self.reaches(START_S)

    def file(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(text)
        return path

    def run(self, net, core, *args, **options):
        """Start the program of one end."""
        log = open(os.path.join(self.folder.name, f"{net.name}.log"), "w", encoding="utf-8")
        self.programs.append(spawn(net, core, *args, stdout=log, stderr=log, **options))

    def wait_for_device(self, net, device):
        deadline = time.monotonic() + START_S
        while net.run("ip", "link", "show", device).returncode:
            if time.monotonic() > deadline or self.programs[-1].poll() is not None:
                with open(os.path.join(self.folder.name, f"{net.name}.log"),
                          encoding="utf-8") as log:
                    raise RuntimeError(f"{self.name} did not start: {log.read()[-500:]}")
            time.sleep(0.05)


def command(*args, **options):
    return subprocess.run(args, text=True, capture_output=True, check=True, **options).stdout


class WireGuard(Peer):
    """wireguard-go. Its socket's name is that of the device, so this is one of a kind."""

    def bring_up(self):
        keys = [command("wg", "genkey") for _ in range(2)]
        public = [command("wg", "pubkey", input=key).strip() for key in keys]
        for i, (net, core, _, _, _, there) in enumerate(self.sides()):
            device = f"wgb{os.getpid() % 10000}-{i}"
            self.run(net, core, "wireguard-go", "-f", device)
            self.wait_for_device(net, device)
            net.run("wg", "set", device, "listen-port", "51820", "private-key",
                    self.file(f"key{i}", keys[i]), "peer", public[1 - i], "allowed-ips",
                    "0.0.0.0/0", "endpoint", f"{there}:51820", check=True)
            net.run("ip", "link", "set", device, "name", "wg0", check=True)
        self.inner_addresses("wg0")


class OpenVpn(Peer):
    """OpenVPN from point to point, each end knows the other's certificate."""

    def certificate(self, i):
        """(certificate, key, fingerprint)"""
        cert, key = (os.path.join(self.folder.name, f"{kind}{i}") for kind in ("cert", "key"))
        command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN=end{i}",
                "-keyout", key, "-out", cert)
        print_ = command("openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256")
        return cert, key, print_.strip().split("=", 1)[1]

    def bring_up(self):
        certs = [self.certificate(i) for i in range(2)]
        for i, (net, core, _, _, here, there) in enumerate(self.sides()):
            cert, key, _ = certs[i]
            self.run(net, core, "openvpn", "--dev", "tun0", "--dev-type", "tun", "--disable-dco",
                     "--proto", "udp4", "--local", here, "--remote", there, "--port", "1194",
                     "--tls-server" if i else "--tls-client", "--cert", cert, "--key", key,
                     "--peer-fingerprint", certs[1 - i][2], "--dh", "none", "--data-ciphers",
                     "AES-128-GCM", "--cipher", "AES-128-GCM", "--allow-compression", "no",
                     "--tun-mtu", "1400", "--mssfix", "0", "--txqueuelen", "1000", "--fast-io",
                     "--sndbuf", BUFFER, "--rcvbuf", BUFFER, "--keepalive", "10", "60", "--verb",
                     "1")
            self.wait_for_device(net, "tun0")
        self.inner_addresses("tun0")


class StrongSwan(Peer):
    """charon with kernel-libipsec, ESP in UDP; aesni before openssl, as it is the faster one."""

    def bring_up(self):
        self.inner_addresses()
        for i, (net, core, here, there, *ends) in enumerate(self.sides()):
            net.run("ip", "route", "add", there, "via", ends[1], "src", here, "mtu", "1400",
                    check=True)
            socket = f"unix://{self.folder.name}/vici{i}"
            env = {**os.environ, "STRONGSWAN_CONF": self.file(f"strongswan{i}", f"""
charon-systemd {{
    load = {STRONGSWAN}
    plugins {{
        vici {{
            socket = {socket}
        }}
    }}
    journal {{
        default = -1
    }}
}}
swanctl {{
    load = random openssl
}}
""")}
            self.run(net, core, "charon-systemd", env=env)
            self.wait_for_device(net, "ipsec0")
            net.run("ip", "link", "set", "ipsec0", "mtu", "1400", "txqueuelen", "1000", check=True)
            net.run("swanctl", "--load-all", "--uri", socket, "--file",
                    self.file(f"swanctl{i}", self.connection(here, there, *ends)), env=env,
                    check=True)
        net.run("swanctl", "--initiate", "--child", "tunnel", "--uri", socket, env=env, check=True)

    @staticmethod
    def connection(here, there, outer_here, outer_there):
        return f"""
connections {{
    tunnel {{
        version = 2
        encap = yes
        proposals = aes128-sha256-x25519
        local_addrs = {outer_here}
        remote_addrs = {outer_there}
        local {{
            auth = psk
            id = {outer_here}
        }}
        remote {{
            auth = psk
            id = {outer_there}
        }}
        children {{
            tunnel {{
                esp_proposals = aes128gcm16
                local_ts = {here}/32
                remote_ts = {there}/32
            }}
        }}
    }}
}}
secrets {{
    ike-bench {{
        secret = of a benchmark
    }}
}}
"""


PEERS = (
    ("strongswan-libipsec", StrongSwan,
     ("charon-systemd", "swanctl", *map(PLUGINS.format, ("kernel-libipsec", "openssl", "aesni")))),
    ("openvpn", OpenVpn, ("openvpn", "openssl")),
    ("wireguard-go", WireGuard, ("wireguard-go", "wg")),
)


def missing(programs):
    return [name for name in programs if not (shutil.which(name) or os.path.exists(name))]


def start_all(build):
    """Paths by name, and what did not start."""
    paths, skipped = {}, []
    for name, kind, programs in PEERS:
        absent = missing(programs)
        if absent:
            skipped.append((f"peers {name}", f"not run, missing: {' '.join(absent)}; "
                                             "sudo make bench-deps installs it"))
            continue
        try:
            paths[name] = kind(name)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            more = getattr(error, "stderr", "") or ""
            skipped.append((f"peers {name}", f"FAILED: {error} {more.strip()}"))
    if paths:
        paths["gcm128"] = Path("gcm128", os.path.join(build, "src", "daemon", "xfrmd"))
    return paths, skipped


def run(build, say):
    """Rows, and what did not run: (name, why)."""
    if os.geteuid() != 0 or len(CORES) < 2:
        return [], [("peers", "not run, it needs root and two cores")]
    sys.argv[1:2] = [build]  # where the tests' module looks for programs
    rows = []
    try:
        paths, skipped = start_all(build)
        found = collect({name: lambda path=path: measure.tcp(path) for name, path in paths.items()},
                        say, "peers, TCP, one stream")
        pairs = [("gcm128", name) for name in paths if name != "gcm128"]
        rows += rows_of("peers", "TCP, one stream", found, pairs, traffic="tcp", dir="out")
        skipped += failures(found, "peers")
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        skipped = [("peers", f"FAILED: {error}")]
    finally:
        close_all()
    return rows, skipped
