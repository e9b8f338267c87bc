"""Certificates for one run, made with the openssl command: good, expired, revoked, from another authority."""

from __future__ import annotations

import subprocess
from pathlib import Path

_CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
default_days = 3650
default_crl_days = 3650
policy = any
[any]
commonName = supplied
organizationName = optional
[req]
distinguished_name = none
[none]
[server]
subjectAltName = DNS:localhost, IP:127.0.0.1
[authority]
basicConstraints = critical, CA:true
keyUsage = keyCertSign, cRLSign
"""


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {done.stderr.decode()}")


def make(folder: Path) -> None:
    """Write ca.crt, server, client, expired and revoked (each .crt and .key), other.crt and crl.pem."""
    folder.chmod(0o755)
    config = folder / "openssl.cnf"
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01\n")
    for name in ("ca", "other-ca"):
        _openssl(
            folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "3650", "-subj", f"/CN={name}",
            "-config", str(config), "-extensions", "authority",
        )  # fmt: skip
    _issue(folder, "server", "server", ())
    _issue(folder, "client", "client", ())
    _issue(folder, "expired", "expired", ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z"))
    _issue(folder, "revoked", "revoked", ())
    _openssl(folder, "ca", "-config", str(config), "-revoke", "revoked.crt")
    _openssl(folder, "ca", "-config", str(config), "-gencrl", "-out", "crl.pem")
    for key in folder.glob("*.key"):
        key.chmod(0o644)


def _issue(folder: Path, name: str, common_name: str, dates: tuple[str, ...]) -> None:
    config = str(folder / "openssl.cnf")
    _openssl(
        folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-config", config, "-keyout", f"{name}.key",
        "-out", f"{name}.csr", "-subj", f"/O=Rowcast/CN={common_name}",
    )  # fmt: skip
    _openssl(
        folder, "ca", "-batch", "-notext", "-config", config, "-in", f"{name}.csr", "-out", f"{name}.crt",
        "-extensions", "server", *dates,
    )  # fmt: skip
