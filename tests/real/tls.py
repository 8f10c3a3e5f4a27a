"""Certificates for servers under test: an authority of our own, and what it signs for loopback."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.real.process import PartMissing

DAYS = "2"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
LOOPBACK = "IP:127.0.0.1,DNS:localhost"


@dataclass(frozen=True)
class Signed:
    """A certificate with its key; `both` holds the two in one file, key first, as Kafka's PEM key store wants them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """A certificate authority with its files in `folder`. Keys are elliptic: made in milliseconds."""

    def __init__(self, folder: Path, name: str = "Leadline tests") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        files = ("-keyout", str(self._key), "-out", str(self.certificate))
        extensions = (
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        _openssl("req", "-x509", *CURVE, *files, "-days", DAYS, "-subj", f"/CN={name}", *extensions)

    def sign(self, name: str, names: str = LOOPBACK) -> Signed:
        """A certificate for `names` (subject alternative names, as openssl writes them)."""
        made = Signed(*(self.folder / f"{name}.{suffix}" for suffix in ("crt", "key", "pem")))
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        _openssl("req", "-new", *CURVE, "-keyout", str(made.key), "-out", str(request), "-subj", f"/CN={name}")
        extensions.write_text(f"subjectAltName={names}\n")
        authority = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial", "-days", DAYS)
        _openssl(
            "x509", "-req", "-in", str(request), *authority, "-extfile", str(extensions), "-out", str(made.certificate)
        )
        made.both.write_text(made.key.read_text() + made.certificate.read_text())
        return made


def _openssl(*arguments: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise PartMissing("openssl is not on PATH: it makes the certificates (Debian: apt-get install openssl)")
    done = subprocess.run([openssl, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PartMissing(f"openssl {arguments[0]} failed: {done.stderr[-500:]}")
