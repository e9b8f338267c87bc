"""Rowcast as any user has it: built as a wheel from this checkout, installed in a venv of its own.

Two installs: hot modules compiled by mypyc, and interpreted.  Each is built anew when a source file has changed.
`--peer rowcast=COMMIT` adds a compiled install of another commit, to be measured beside this one.
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
from collections.abc import Callable, Iterator
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
    "MANIFEST.in",
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
EARLIER: Final = "Rowcast at "
"""A peer of that beginning, followed by a commit, is another version of Rowcast."""
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


def venv_of(kind: str, commit: str = "") -> Path:
    """Where the `compiled` or the `interpreted` install lives; of this checkout, or of another commit."""
    return CACHE / "-".join(filter(None, ("rowcast", kind, commit)))


def install(kind: str, commit: str = "") -> str:
    """Build and install if need be; the version with its interpreter.

    Args:
        commit: another one than is checked out, in full or the beginning of its name.

    Raises:
        Unavailable: the build failed, or `compiled` came out interpreted.
    """
    venv = venv_of(kind, commit)
    with _alone():
        if commit:
            _keep_built(kind, commit, venv)
        else:
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
        _build(kind, venv, _copy_sources)
    (venv / "built-from").write_text("\n".join([commit, python_in_use(), digest]))


def _keep_built(kind: str, commit: str, venv: Path) -> None:
    """A commit does not change: one build is enough."""
    if _stamp(venv) != [commit, python_in_use(), commit]:
        _build(kind, venv, partial(_extract, commit))
        (venv / "built-from").write_text("\n".join([commit, python_in_use(), commit]))


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
    if not uncommitted():
        _extract("HEAD", checkout)
        return
    for path in _source_files():
        copy = checkout / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _extract(commit: str, checkout: Path) -> None:
    """What that commit has of the sources: an early one lacks some of today's files."""
    listed = output_of("git", "ls-tree", "--name-only", commit, cwd=ROOT).split()
    archive = subprocess.run(
        ["git", "archive", commit, *(name for name in _SOURCES if name in listed)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(checkout, filter="data")


def _build(kind: str, venv: Path, copy_sources_to: Callable[[Path], None]) -> None:
    checkout = CACHE / f"build-{kind}"
    shutil.rmtree(checkout, ignore_errors=True)
    checkout.mkdir(parents=True)
    copy_sources_to(checkout)
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
def _start(venv: Path, name: str, directory: Path, needs: str) -> Iterator[Target]:
    facts: dict[str, str] = {}
    if needs in _NEEDS_POSTGRES:
        mqtt, websocket = free_address(), free_address()
        facts = {"dsn": postgres.dsn(), "secret": SECRET}
        conf = directory / "rowcast.toml"
        values = {"dsn": postgres.dsn(), "mqtt": mqtt.port, "websocket": websocket.port, "secret": SECRET}
        conf.write_text(_TOML.format(**values) + postgres.FEED)
    else:
        setting = write_mosquitto_conf(directory, needs)
        conf, mqtt, websocket = setting.conf, setting.mqtt, setting.websocket
    with running([venv / "bin" / "rowcast", "-c", conf], directory, mqtt) as process:
        yield Target(name, process.pid, process.start_ms, mqtt, websocket, facts)


def _peer(name: str, kind: str, commit: str = "") -> Peer:
    return Peer(name, ABILITIES, partial(install, kind, commit), partial(_start, venv_of(kind, commit), name))


COMPILED: Final = _peer("Rowcast", "compiled")
INTERPRETED: Final = _peer("Rowcast interpreted", "interpreted")


def earlier(words: str) -> Peer:
    """The peer that `rowcast=COMMIT` stands for.

    Raises:
        SystemExit: there is no such commit.
    """
    commit = output_of(
        "git",
        "rev-parse",
        "--short",
        "--quiet",
        "--verify",
        f"{words.partition('=')[2]}^{{commit}}",
        cwd=ROOT,
    )
    if not commit:
        raise SystemExit(f"--peer {words}: there is no such commit in {ROOT}; see `git log --oneline`")
    return _peer(f"{EARLIER}{commit}", "compiled", commit)
