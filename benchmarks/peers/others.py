"""Peers from the package registries: Mosquitto (apt), aedes (npm), amqtt and `websockets` (PyPI)."""

from __future__ import annotations

import getpass
import hashlib
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from benchmarks.clients import Address
from benchmarks.machine import output_of
from benchmarks.measurement import Target
from benchmarks.peers.kinds import Peer, Unavailable, Word
from benchmarks.peers.process import free_address, running

HERE: Final = Path(__file__).parent
CACHE: Final = HERE.parent / ".cache"

MOSQUITTO_CONF: Final = """\
listener {mqtt} 127.0.0.1
listener {websocket} 127.0.0.1
protocol websockets
set_tcp_nodelay true
allow_anonymous true
persistence false
max_queued_messages 0
log_type error
"""
"""What Mosquitto and Rowcast are both started with: their defaults, without a limit that would drop."""


@frozen
class Setting:
    """A configuration, and how clients reach what it opens."""

    conf: Path
    mqtt: Address
    websocket: Address


def write_mosquitto_conf(directory: Path, needs: str) -> Setting:
    """For a workload that needs this: `tls`, `rules` (a password and an ACL file), or neither."""
    mqtt, websocket = free_address(), free_address()
    text = MOSQUITTO_CONF.format(mqtt=mqtt.port, websocket=websocket.port)
    if needs.startswith("tls"):
        certificate = made_certificate("rsa:2048" if needs == "tls-rsa" else "ec")
        files = f"certfile {certificate.with_suffix('.crt')}\nkeyfile {certificate.with_suffix('.key')}\n"
        lines = text.replace(" 127.0.0.1\n", f" 127.0.0.1\n{files}")
        text = lines
        mqtt, websocket = (
            evolve(address, cafile=certificate.with_suffix(".crt")) for address in (mqtt, websocket)
        )
    elif needs == "rules":
        (directory / "passwords").write_text(_PASSWORDS)
        (directory / "passwords").chmod(0o600)
        (directory / "acl").write_text(_ACL)
        (directory / "acl").chmod(0o600)
        text = text.replace("allow_anonymous true", "allow_anonymous false")
        # Started by root, Mosquitto would become a user who can't read these.
        text += f"user {getpass.getuser()}\npassword_file {directory / 'passwords'}\nacl_file {directory / 'acl'}\n"
        mqtt = evolve(mqtt, user=b"bench", password=b"secret")
    path = directory / "mosquitto.conf"
    path.write_text(text)
    return Setting(path, mqtt, websocket)


def made_certificate(key: str) -> Path:
    """A certificate that signs itself, for localhost; the path without .crt and .key."""
    made = CACHE / "certificates" / key.replace(":", "-")
    if not made.with_suffix(".crt").exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else [key]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-keyout", str(made.with_suffix(".key")), "-out", str(made.with_suffix(".crt"))]
        _run("openssl", "req", "-x509", "-nodes", "-days", "365", "-newkey", *kind, *names, *files)
        made.with_suffix(".key").chmod(0o644)
    return made


_SALT: Final = b"twelve bytes"
_HASH: Final = hashlib.pbkdf2_hmac("sha512", b"secret", _SALT, 101)
_PASSWORDS: Final = f"bench:$7$101${b64encode(_SALT).decode()}${b64encode(_HASH).decode()}\n"
_ACL: Final = """\
user bench
topic read other/#
topic deny bench/secret/#
topic readwrite bench/#
topic readwrite idle/#
"""


def _install_mosquitto() -> str:
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        raise Unavailable("mosquitto is not installed: apt-get install mosquitto")
    found = re.search(r"mosquitto version (\S+)", output_of(_mosquitto(), "-h"))
    return found.group(1) if found else "unknown"


def _mosquitto() -> str:
    return shutil.which("mosquitto") or "/usr/sbin/mosquitto"


@contextmanager
def _start_mosquitto(directory: Path, needs: str) -> Iterator[Target]:
    setting = write_mosquitto_conf(directory, needs)
    with running([_mosquitto(), "-c", setting.conf], directory, setting.mqtt) as process:
        yield Target("Mosquitto", process.pid, process.start_ms, setting.mqtt, setting.websocket)


def _install_aedes() -> str:
    folder = CACHE / "aedes"
    if not (folder / "node_modules" / "aedes").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--no-audit", "--no-fund", "--prefix", folder, "aedes@1")
    found = re.search(r'"version": "([^"]+)"', (folder / "node_modules/aedes/package.json").read_text())
    return f"{found.group(1) if found else 'unknown'}, Node {output_of('node', '--version')}"


@contextmanager
def _start_aedes(directory: Path, needs: str) -> Iterator[Target]:
    mqtt = free_address()
    command: list[Word] = ["node", HERE / "aedes.cjs", str(mqtt.port)]
    environment = {"NODE_PATH": str(CACHE / "aedes" / "node_modules")}
    with running(command, directory, mqtt, environment) as process:
        yield Target("aedes", process.pid, process.start_ms, mqtt, mqtt)


def install_from_pypi(package: str) -> str:
    """Into a venv of its own, because these pin each other's dependencies; the version and its interpreter."""
    python = CACHE / package / "bin" / "python"
    ask = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    if not python.exists() or "Error" in output_of(python, "-c", ask):
        _run(sys.executable, "-m", "venv", "--clear", CACHE / package)
        _run(python, "-m", "pip", "install", "--quiet", package)
    return f"{output_of(python, '-c', ask)}, {output_of(python, '--version')}"


@contextmanager
def _start_amqtt(directory: Path, needs: str) -> Iterator[Target]:
    mqtt = free_address()
    command: list[Word] = [CACHE / "amqtt" / "bin" / "python", HERE / "amqtt_broker.py", str(mqtt.port)]
    with running(command, directory, mqtt) as process:
        yield Target("amqtt", process.pid, process.start_ms, mqtt, mqtt)


@contextmanager
def _start_websockets(directory: Path, needs: str) -> Iterator[Target]:
    address = free_address()
    command: list[Word] = [
        CACHE / "websockets" / "bin" / "python",
        HERE / "websockets_broadcast.py",
        str(address.port),
    ]
    with running(command, directory, address, speaks_mqtt=False) as process:
        yield Target(
            "websockets", process.pid, process.start_ms, address, address, {"websocket": "broadcast"}
        )


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command))}: {done.stderr.strip()[-400:]}")


MOSQUITTO: Final = Peer(
    "Mosquitto",
    frozenset(
        {
            *(
                "mqtt",
                "one-topic",
                "acknowledged",
                "retain",
                "connections",
                "large",
                "mqtt-websocket",
                "mqtt-5",
            ),
            *("tls", "tls-rsa", "tls-websocket", "rules"),
        }
    ),
    _install_mosquitto,
    _start_mosquitto,
)
AEDES: Final = Peer(
    "aedes",
    frozenset({"mqtt", "one-topic", "acknowledged", "retain", "connections", "large"}),
    _install_aedes,
    _start_aedes,
)
AMQTT: Final = Peer(
    "amqtt",
    frozenset(
        {"mqtt", "one-topic", "acknowledged", "connections"}
    ),  # 100 000 topics or 10 000 clients take it minutes
    lambda: install_from_pypi("amqtt"),
    _start_amqtt,
)
WEBSOCKETS: Final = Peer(
    "websockets",
    frozenset({"dialects", "ws-connections"}),
    lambda: install_from_pypi("websockets"),
    _start_websockets,
)
