"""The cells of the interop matrix: which suite in which mode, and the ip commands for it."""
import hashlib
import itertools
from collections import namedtuple

# algo: words for "ip xfrm state add" before and after the key; key: bytes, salt included.
Suite = namedtuple("Suite", "name cipher bits icv algo")
# family: inner and outer; encap: ESP in UDP
Cell = namedtuple("Cell", "suite mode inner outer esn encap")

HMACS = (("sha1-96", "hmac(sha1)", 20, 96), ("sha256-128", "hmac(sha256)", 32, 128),
         ("sha256-96", "hmac(sha256)", 32, None), ("sha384-192", "hmac(sha384)", 48, 192),
         ("sha512-256", "hmac(sha512)", 64, 256))
FORMS = tuple([("transport", 4, 4), ("transport", 6, 6)]
              + [("tunnel", inner, outer) for inner in (4, 6) for outer in (4, 6)])
OUTER = {4: ("10.77.0.1", "10.77.0.2"), 6: ("fd77::1", "fd77::2")}
INNER = {4: ("10.77.1.1", "10.77.2.1"), 6: ("fd77:1::1", "fd77:2::1")}
ENCAP_PORT = 4500


def _aead(name, cipher, algo, bits, salt, icv):
    return Suite(f"{name}{bits}-{icv}", cipher, bits, str(icv),
                 (("aead", algo, bits // 8 + salt, icv * 8),))


def suites():
    """Every algorithm x key size x ICV."""
    found = []
    for bits, icv in itertools.product((128, 192, 256), (8, 12, 16)):
        found.append(_aead("gcm", "gcm", "rfc4106(gcm(aes))", bits, 4, icv))
        found.append(_aead("ccm", "ccm", "rfc4309(ccm(aes))", bits, 3, icv))
    for bits in (128, 192, 256):
        found.append(_aead("gmac", "gmac", "rfc4543(gcm(aes))", bits, 4, 16))
    found.append(_aead("chacha", "chacha", "rfc7539esp(chacha20,poly1305)", 256, 4, 16))
    for name, hmac, key, trunc in HMACS:
        auth = ("auth-trunc", hmac, key, trunc) if trunc else ("auth", hmac, key, None)
        found.append(Suite(f"null-{name}", "null", 0, name,
                           (("enc", "ecb(cipher_null)", 0, None), auth)))
        for bits in (128, 192, 256):
            found.append(Suite(f"cbc{bits}-{name}", "cbc", bits, name,
                               (("enc", "cbc(aes)", bits // 8, None), auth)))
            found.append(Suite(f"ctr{bits}-{name}", "ctr", bits, name,
                               (("enc", "rfc3686(ctr(aes))", bits // 8 + 4, None), auth)))
    return found


def name(cell):
    form = f"{cell.inner}in{cell.outer}" if cell.mode == "tunnel" else f"v{cell.outer}"
    return " ".join([cell.suite.name, cell.mode, form] + ["esn"] * cell.esn + ["udp"] * cell.encap)


def everything():
    """Every suite in every mode, family, with and without ESN and encapsulation."""
    return [Cell(suite, *form, esn, encap) for suite in suites() for form in FORMS
            for esn in (False, True) for encap in (False, True)
            if not encap or form[2] == 4]


def matrix():
    """Every suite in one mode, and every mode with an AEAD, a CBC-HMAC and a NULL-HMAC suite."""
    named = {suite.name: suite for suite in suites()}
    three = [named[n] for n in ("gcm128-16", "cbc128-sha256-128", "null-sha256-128")]
    found = [Cell(suite, "tunnel", 4, 4, False, False) for suite in suites()]
    found += [cell for cell in everything() if cell.suite in three and cell not in found]
    return found


def _pairs(cell):
    suite = cell.suite
    values = (("cipher", suite.cipher), ("bits", suite.bits), ("icv", suite.icv),
              ("form", (cell.mode, cell.inner, cell.outer)), ("esn", cell.esn),
              ("encap", cell.encap))
    return set(itertools.combinations(values, 2))


def pairwise():
    """Greedily the fewest cells in which any two values that can meet do meet."""
    candidates = [(cell, _pairs(cell)) for cell in everything()]
    missing = set().union(*(pairs for _, pairs in candidates))
    found = []
    while missing:
        cell, pairs = max(candidates, key=lambda entry: len(entry[1] & missing))
        found.append(cell)
        missing -= pairs
    return found


def key(cell, way, part, length):
    """Each cell, direction and algorithm has a key of its own, the same on both sides."""
    seed = f"{name(cell)} {way} {part}".encode()
    return hashlib.shake_128(seed).hexdigest(length)


def _algorithms(cell, way):
    words = []
    for kind, algo, length, bits in cell.suite.algo:
        text = "0x" + key(cell, way, kind, length) if length else '""'
        words += [kind, f'"{algo}"', text] + ([str(bits)] if bits else [])
    return words


def addresses(cell, side):
    """What the traffic uses: own address, the other side's."""
    pair = INNER[cell.inner] if cell.mode == "tunnel" else OUTER[cell.outer]
    return (pair[0], pair[1]) if side == 0 else (pair[1], pair[0])


def _state(cell, spi, way):
    src, dst = OUTER[cell.outer] if way == 0 else OUTER[cell.outer][::-1]
    words = ["xfrm state add src", src, "dst", dst, "proto esp spi", hex(spi), "reqid 7 mode",
             cell.mode, "replay-window 64"]
    # Without af-unspec an SA carries only packets of its own addresses' family.
    flags = ["esn"] * cell.esn + ["af-unspec"] * (cell.inner != cell.outer)
    words += (["flag", *flags] if flags else []) + _algorithms(cell, way)
    if cell.encap:
        words += ["encap espinudp", str(ENCAP_PORT), str(ENCAP_PORT), "0.0.0.0"]
    return " ".join(words)


def _policy(cell, side, out):
    own, other = addresses(cell, side)
    src, dst = (own, other) if out else (other, own)
    words = ["xfrm policy add src", src, "dst", dst, "dir", "out" if out else "in", "tmpl"]
    if cell.mode == "tunnel":
        ends = OUTER[cell.outer] if out == (side == 0) else OUTER[cell.outer][::-1]
        words += ["src", ends[0], "dst", ends[1]]
    return " ".join(words + ["proto esp reqid 7 mode", cell.mode])


def setup(cell, number, side):
    """Lines for "ip -batch": everything of the cell before it goes, this one comes."""
    spi = 0x10000 + 2 * number
    return "\n".join(["xfrm state flush", "xfrm policy flush",
                      _state(cell, spi, 0), _state(cell, spi + 1, 1),
                      _policy(cell, side, True), _policy(cell, side, False)]) + "\n"


def ground(side, device, neighbour):
    """A shell script: addresses, routes, and fixed neighbours, which policies must not see."""
    own, other = side, 1 - side
    lines = ["sysctl -qw net.ipv4.ping_group_range='0 2147483647' || :"]
    for family, inner_len, net in ((4, 32, "10.77.{}.0/24"), (6, 128, "fd77:{}::/64")):
        ip, outer, inner = f"ip -{family}", OUTER[family], INNER[family]
        nodad = " nodad" if family == 6 else ""
        lines += [f"{ip} addr replace {outer[own]}/{24 if family == 4 else 64} dev {device}{nodad}",
                  f"{ip} addr replace {inner[own]}/{inner_len} dev lo{nodad}",
                  f"{ip} neigh replace {outer[other]} dev {device} lladdr {neighbour}"
                  " nud permanent",
                  f"{ip} route replace {net.format(other + 1)} via {outer[other]} dev {device}"
                  f" src {inner[own]}"]
    return "\n".join(["set -e", f"ip link set {device} up", *lines]) + "\n"
