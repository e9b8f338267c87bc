"""A certificate authority for tests, made with `openssl`: server, clients, an expired one, a revoked one."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIG = """\
[ca]
default_ca = test
[test]
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
policy = any
default_days = 30
default_crl_days = 30
unique_subject = no
copy_extensions = copy
x509_extensions = issued
[issued]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[any]
commonName = optional
organizationName = optional
organizationalUnitName = optional
countryName = optional
emailAddress = optional
"""


class Authority:
    """One authority in a folder; each certificate is NAME.crt and NAME.key there."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self.folder = folder
        (folder / "ca.cnf").write_text(CONFIG)
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1000\n")
        self._key("ca")
        # Python 3.13 wants to be told what it is for.
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self._openssl(
            *(
                "req",
                "-x509",
                "-new",
                "-key",
                "ca.key",
                "-subj",
                f"/CN={name}",
                "-addext",
                usage,
                "-out",
                "ca.crt",
            )
        )
        self.ca = folder / "ca.crt"

    def issue(
        self, name: str, subject: str, *, expired: bool = False, host: bool = False
    ) -> tuple[Path, Path]:
        """A certificate for that subject, as `/CN=device 7/O=Example`, and its key; `+` joins two parts."""
        self._key(name)
        request = ["req", "-new", "-utf8", "-multivalue-rdn", "-key", f"{name}.key", "-subj", subject]
        if host:
            request += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        self._openssl(*request, "-out", f"{name}.csr")
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if expired else []
        self._openssl(
            *("ca", "-batch", "-notext", "-preserveDN", "-config", "ca.cnf", "-in", f"{name}.csr"),
            *("-out", f"{name}.crt", *dates),
        )
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def revoke(self, *names: str) -> Path:
        """The authority's list of revoked certificates, with these in it."""
        for name in names:
            self._openssl("ca", "-config", "ca.cnf", "-revoke", f"{name}.crt")
        self._openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", "revoked.crl")
        return self.folder / "revoked.crl"

    def _key(self, name: str) -> None:
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        self._openssl("genpkey", *curve, "-out", f"{name}.key")

    def _openssl(self, *words: str) -> None:
        run = subprocess.run(
            ["openssl", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
