#!/usr/bin/env python3
"""Known answers from one source, through every crypto provider.

    vectors.py RUN_LINES SOURCE

SOURCE is a JSON file beside this script (its name without .json), or one of NIST_SOURCES, read from
where Debian's python3-cryptography-vectors has them. What no ESP suite can have is counted.
"""
import collections
import glob
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "python3-cryptography-vectors"
AAD_MAX = 32
FIELDS = ("name", "cipher", "auth", "key", "auth_key", "nonce", "aad", "plain", "text", "icv")


class Vectors:
    """Lines for run_lines, and what was left out."""

    def __init__(self):
        self.lines = []
        self.left_out = collections.Counter()

    def add(self, forged=False, **fields):
        values = [fields.get(name) or "-" for name in FIELDS]
        values[2] = fields.get("auth", "none")
        values[0] = values[0].replace(" ", "_")
        self.lines.append(" ".join([values[0]] + [v.lower() for v in values[1:]] +
                                   ["forged" if forged else "ok"]))


def records(path):
    """The blank-line separated 'name = value' groups of a vector file, with what holds for them
    from headings: [Tlen = 4] and the like. A word alone is a name without a value."""
    held, group = {}, {}
    with open(path, encoding="ascii", errors="replace") as lines:
        for line in [*lines, ""]:
            line = line.strip()
            if line.startswith("#"):
                continue
            if line.startswith("["):
                for part in line.strip("[]").split(","):
                    name, _, value = part.partition("=")
                    held[name.strip().lower()] = value.strip()
            elif line:
                name, _, value = line.partition("=")
                group[name.strip().lower()] = value.strip()
            elif group:
                yield {**held, **group}
                group = {}


def label(path, record):
    return f"{os.path.basename(path)}:{record.get('count', '?')}"


def gcm(root, out):
    for path in sorted(glob.glob(f"{root}/ciphers/AES/GCM/*.rsp")):
        for r in records(path):
            if len(r["iv"]) != 24:
                out.left_out["IV not of 96 bits"] += 1
            elif len(r["tag"]) not in (16, 24, 32):
                out.left_out["tag not of 64, 96 or 128 bits"] += 1
            elif len(r["aad"]) > 2 * AAD_MAX:
                out.left_out["additional data longer than ESP's"] += 1
            else:
                out.add(name=label(path, r), cipher="gcm", key=r["key"], nonce=r["iv"],
                        aad=r["aad"], plain=r.get("pt"), text=r["ct"], icv=r["tag"],
                        forged="fail" in r)


def ccm_records(path):
    """CAVS files say what changes: lengths, key and nonce hold until they are said again."""
    held = {}
    for r in records(path):
        held.update(r)
        if "count" in r:
            yield dict(held)


def ccm_add(path, r, out):
    tag = 2 * int(r["tlen"])
    cut = len(r["ct"]) - tag
    aad = r["adata"] if int(r["alen"]) else ""
    if int(r["nlen"]) != 11:
        out.left_out["nonce not of 88 bits"] += 1
    elif tag not in (16, 24, 32):
        out.left_out["tag not of 64, 96 or 128 bits"] += 1
    elif len(aad) > 2 * AAD_MAX:
        out.left_out["additional data longer than ESP's"] += 1
    else:
        out.add(name=label(path, r), cipher="ccm", key=r["key"], nonce=r["nonce"], aad=aad,
                plain=r["payload"] if int(r["plen"]) else "", text=r["ct"][:cut],
                icv=r["ct"][cut:], forged=r.get("result") == "Fail")


def ccm(root, out):
    for path in sorted(glob.glob(f"{root}/ciphers/AES/CCM/*.rsp")):
        for r in ccm_records(path):
            ccm_add(path, r, out)


def unauthenticated(root, name, pattern, out):
    for path in sorted(glob.glob(f"{root}/ciphers/AES/{pattern}")):
        for r in records(path):
            if "key" in r:
                out.add(name=label(path, r), cipher=name, key=r["key"], nonce=r["iv"],
                        plain=r["plaintext"], text=r["ciphertext"])


def cbc(root, out):
    unauthenticated(root, "cbc", "CBC/*.rsp", out)


def ctr(root, out):
    unauthenticated(root, "ctr", "CTR/*.txt", out)


def text_or_hex(value):
    return value.strip('"').encode().hex() if value.startswith('"') else value


def chacha(root, out):
    """RFC 7539 and what BoringSSL and OpenSSL made around it."""
    for path in sorted(glob.glob(f"{root}/ciphers/ChaCha20Poly1305/*.txt")):
        for r in records(path):
            nonce = r.get("nonce", r.get("iv", ""))
            aad = text_or_hex(r.get("ad", r.get("aad", "")))
            if len(nonce) != 24:
                out.left_out["nonce not of 96 bits"] += 1
            elif len(aad) > 2 * AAD_MAX:
                out.left_out["additional data longer than ESP's"] += 1
            else:
                out.add(name=label(path, r), cipher="chacha", key=r["key"], nonce=nonce, aad=aad,
                        plain=text_or_hex(r.get("in", r.get("plaintext", ""))),
                        text=text_or_hex(r.get("ct", r.get("ciphertext", ""))),
                        icv=text_or_hex(r["tag"]), forged="result" in r)


def hmac(root, out):
    for name in ("rfc-2202-sha1", "rfc-4231-sha256", "rfc-4231-sha384", "rfc-4231-sha512"):
        path = f"{root}/HMAC/{name}.txt"
        for r in records(path):
            out.add(name=label(path, {"count": r["len"]}), cipher="null", auth=name.split("-")[2],
                    auth_key=r["key"], plain=r["msg"], text=r["msg"], icv=r["md"])


NIST_SOURCES = {"nist-gcm": gcm, "nist-ccm": ccm, "nist-cbc": cbc, "rfc3686-ctr": ctr,
                "rfc8439-chacha": chacha, "rfc2202-rfc4231-hmac": hmac}


def package_root():
    """The module is for Debian's python, which need not be the one that runs this."""
    spec = importlib.util.find_spec("cryptography_vectors")
    where = list(spec.submodule_search_locations) if spec else []
    for root in [*where, "/usr/lib/python3/dist-packages/cryptography_vectors"]:
        if os.path.isdir(root):
            return root
    return None


def own(source, out):
    with open(os.path.join(HERE, f"{source}.json"), encoding="utf-8") as file:
        for vector in json.load(file)["vectors"]:
            vector["text"] = vector.pop("ciphertext")
            vector["plain"] = vector.pop("plaintext")
            del vector["source"]
            out.add(**vector)


def main():
    run_lines, source = sys.argv[1:]
    out = Vectors()
    if source in NIST_SOURCES:
        root = package_root()
        if not root:
            print(f"1..1\nok 1 - {source} # SKIP {PACKAGE} is not installed")
            return 0
        NIST_SOURCES[source](root, out)
    else:
        own(source, out)
    with tempfile.NamedTemporaryFile("w", suffix=".lines") as file:
        file.write("".join(line + "\n" for line in out.lines))
        file.flush()
        status = subprocess.run([run_lines, source, file.name], check=False).returncode
    print(f"# {source}: {len(out.lines)} vectors", flush=True)
    for reason, count in sorted(out.left_out.items()):
        print(f"# not for ESP: {count}, {reason}")
    return status


if __name__ == "__main__":
    sys.exit(main())
