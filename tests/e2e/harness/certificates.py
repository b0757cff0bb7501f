"""Keys and certificates of a test cluster, made with the `openssl` program.

It knows who a cluster's programs must be for each other; it does not start anything. Called by
`apiserver.py` and `node.py`.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, digitalSignature
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth, serverAuth
"""
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A cluster's certificate authority, living in one folder."""

    def __init__(self, folder: Path) -> None:
        """Make the authority when the folder has none yet."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")
        (folder / "openssl.cnf").write_text(_CONFIG)
        if not self.pair.certificate.exists():
            self._request(self.pair, "/CN=stoker-test", "authority", [])

    def issue(
        self, name: str, common_name: str, *, group: str = "", hosts: tuple[str, ...] = ()
    ) -> Pair:
        """A certificate for a user of the API (name and group) or a server (hosts)."""
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        if pair.certificate.exists():
            return pair
        subject = f"/O={group}/CN={common_name}" if group else f"/CN={common_name}"
        extra = ["-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key)]
        if hosts:
            extra += ["-addext", f"subjectAltName={','.join(map(_alternative_name, hosts))}"]
        self._request(pair, subject, "leaf", extra)
        return pair

    def _request(self, pair: Pair, subject: str, extensions: str, extra: list[str]) -> None:
        config = ["-config", str(self.folder / "openssl.cnf"), "-extensions", extensions]
        where = ["-keyout", str(pair.key), "-out", str(pair.certificate), "-days", "3650"]
        command = ["openssl", "req", "-x509", "-new", *_NEW_KEY, "-subj", subject]
        subprocess.run([*command, *config, *where, *extra], check=True, capture_output=True)


def _alternative_name(host: str) -> str:
    is_address = host.replace(".", "").isdigit()
    return f"IP:{host}" if is_address else f"DNS:{host}"
