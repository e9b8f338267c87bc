"""Rowcast as any user has it: built as a wheel from this checkout, installed in a venv of its own.

Two installs: hot modules compiled by mypyc, and interpreted.  Each is built anew when a source file has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.machine import output_of
from benchmarks.measurement import Target
from benchmarks.peers import postgres
from benchmarks.peers.kinds import Peer, Unavailable, Word
from benchmarks.peers.others import CACHE, write_mosquitto_conf
from benchmarks.peers.process import free_address, running

ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = (
    "broker",
    "protocol",
    "setup.py",
    "pyproject.toml",
    "hot-modules.toml",
    "README.md",
    "LICENSE",
)
ABILITIES: Final = frozenset(
    {
        "mqtt",
        "one-topic",
        "mqtt-5",
        "tls",
        "tls-rsa",
        "tls-websocket",
        "rules",
        "acknowledged",
        "retain",
        "connections",
        "large",
        "mqtt-websocket",
        "dialects",
        "ws-connections",
        "feed",
        "feed-websocket",
    }
)
SECRET: Final = "benchmark-secret-that-is-long-enough"
_NEEDS_POSTGRES: Final = frozenset({"dialects", "ws-connections", "feed", "feed-websocket"})
_TOML: Final = """\
[database]
dsn = "{dsn}"

[security]
allow_anonymous = true

[[listener]]
port = {mqtt}
host = "127.0.0.1"

[[listener]]
port = {websocket}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["mqtt", "econia", "exchange", "canton"]

[websocket.econia]
jwt = {{ secret = "{secret}" }}

[websocket.exchange]
jwt = {{ secret = "{secret}", account = "uid" }}

[websocket.canton]
jwt = {{ secret = "{secret}", account = "account_id", roles = "roles" }}

[source.rows]
listen = ["bench"]

[source.econiaws]
listen = "econiaws"
kind = "$.channel"
row = "$.payload"

[source.streams]
listen = ["trades"]

[source.canton]
listen = "canton"
kind = "$.channel"
row = "$.message"

[[mqtt.route]]
from = "rows"
topics = "rows/{{market_id}}/{{account}}"

[[websocket.route]]
from = "econiaws"
dialect = "econia"
channel = "{{$kind}}"

[[websocket.route]]
from = "streams"
dialect = "exchange"
channel = "{{symbol}}@{{$kind}}"

[[websocket.route]]
from = "canton"
dialect = "canton"
channel = "{{$kind}}"
"""


def default_python() -> str:
    """Debian's interpreter where it can build, since users will have that one; otherwise the one that runs this."""
    system = "/usr/bin/python3"
    probe = (
        "import os, sys, sysconfig, venv\n"
        "header = sysconfig.get_path('include') + '/Python.h'\n"
        "sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))"
    )
    usable = Path(system).exists() and not subprocess.run([system, "-c", probe], check=False).returncode
    return system if usable else sys.executable


def python_in_use() -> str:
    return os.environ.get("BENCHMARKS_PYTHON", "") or default_python()


def venv_of(kind: str) -> Path:
    """Where the `compiled` or the `interpreted` install lives."""
    return CACHE / f"rowcast-{kind}"


def install(kind: str) -> str:
    """Build and install if need be; the version with its interpreter.

    Raises:
        Unavailable: the build failed, or `compiled` came out interpreted.
    """
    venv = venv_of(kind)
    with _alone():
        _bring_up_to_date(kind, venv)
    python = venv / "bin" / "python"
    compiled = output_of(python, "-P", "-c", "import broker.core.engine as e; print(e.__file__)").endswith(
        ".so"
    )
    if compiled != (kind == "compiled"):
        raise Unavailable(f"the {kind} build of Rowcast came out {'compiled' if compiled else 'interpreted'}")
    return f"{output_of(venv / 'bin' / 'rowcast', '--version')} ({_stamp(venv)[1]})"


def commit_installed(kind: str) -> str:
    """Which commit an install was made from."""
    return _stamp(venv_of(kind))[0] or "unknown"


def _bring_up_to_date(kind: str, venv: Path) -> None:
    if os.environ.get("BENCHMARKS_AS_INSTALLED", "") == "1" and (venv / "bin" / "rowcast").exists():
        return
    commit = output_of("git", "rev-parse", "--short", "HEAD", cwd=ROOT) or "unknown"
    commit += " with uncommitted changes" if uncommitted() else ""
    digest = _digest()
    if _stamp(venv)[1:] != [python_in_use(), digest]:
        _build(kind, venv)
    (venv / "built-from").write_text("\n".join([commit, python_in_use(), digest]))


def _stamp(venv: Path) -> list[str]:
    """The commit, the interpreter and the digest of the sources of an install."""
    stamp = venv / "built-from"
    lines = stamp.read_text().split("\n", 2) if stamp.exists() else []
    return lines if len(lines) == 3 else ["", "", ""]


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs at once may not build into one folder."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest() -> str:
    """Of all source files, so that no stale build is measured."""
    if not uncommitted():
        return output_of("git", "rev-parse", *(f"HEAD:{name}" for name in _SOURCES), cwd=ROOT)
    digest = hashlib.sha256()
    for path in _source_files():
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def uncommitted() -> bool:
    """Whether the working tree is measured; otherwise what HEAD holds, so that a result belongs to a commit."""
    return os.environ.get("BENCHMARKS_UNCOMMITTED", "") == "1"


def _source_files() -> Iterator[Path]:
    for name in _SOURCES:
        path = ROOT / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and file.suffix not in {".so", ".pyc"})


def _copy_sources(checkout: Path) -> None:
    """To another place: compiled files in the checkout would shadow its sources."""
    shutil.rmtree(checkout, ignore_errors=True)
    checkout.mkdir(parents=True)
    if not uncommitted():
        archive = subprocess.run(
            ["git", "archive", "HEAD", *_SOURCES], cwd=ROOT, capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(checkout, filter="data")
        return
    for path in _source_files():
        copy = checkout / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _build(kind: str, venv: Path) -> None:
    checkout = CACHE / f"build-{kind}"
    _copy_sources(checkout)
    if not (venv / "bin" / "python").exists() or _stamp(venv)[1] != python_in_use():
        _run([python_in_use(), "-m", "venv", "--clear", venv], checkout, kind)
    pip: list[Word] = [venv / "bin" / "python", "-m", "pip", "install", "--quiet"]
    wheels = checkout / "wheels"
    _run(
        [venv / "bin" / "python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, checkout],
        checkout,
        kind,
    )
    wheel = next(wheels.glob("rowcast-*.whl"))
    _run([*pip, wheel], checkout, kind)  # with what it depends on
    _run(
        [*pip, "--force-reinstall", "--no-deps", wheel], checkout, kind
    )  # the version number does not change


def _run(command: list[Word], directory: Path, kind: str) -> None:
    environment = {**os.environ, "ROWCAST_COMPILE": "1" if kind == "compiled" else "0"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-1500:]}")


@contextmanager
def _start(kind: str, name: str, directory: Path, needs: str) -> Iterator[Target]:
    facts = {"kind": kind}
    if needs in _NEEDS_POSTGRES:
        mqtt, websocket = free_address(), free_address()
        facts |= {"dsn": postgres.dsn(), "secret": SECRET}
        conf = directory / "rowcast.toml"
        values = {"dsn": postgres.dsn(), "mqtt": mqtt.port, "websocket": websocket.port, "secret": SECRET}
        conf.write_text(_TOML.format(**values))
    else:
        setting = write_mosquitto_conf(directory, needs)
        conf, mqtt, websocket = setting.conf, setting.mqtt, setting.websocket
    with running([venv_of(kind) / "bin" / "rowcast", "-c", conf], directory, mqtt) as process:
        yield Target(name, process.pid, process.start_ms, mqtt, websocket, facts)


COMPILED: Final = Peer(
    "Rowcast", ABILITIES, partial(install, "compiled"), partial(_start, "compiled", "Rowcast")
)
INTERPRETED: Final = Peer(
    "Rowcast interpreted",
    ABILITIES,
    partial(install, "interpreted"),
    partial(_start, "interpreted", "Rowcast interpreted"),
)
