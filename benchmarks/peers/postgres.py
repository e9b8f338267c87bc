"""One Postgres for all workloads that need one: started when first asked for, stopped and removed at exit.

It shares the generator's cores.  fsync is off: a disk's speed is not what is measured.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.peers.kinds import Unavailable, Word
from broker.demo.postgres import PostgresError, find_binaries, unprivileged_account

START_S_MAX: Final = 60.0
_SETTINGS: Final = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=",
    "max_connections=50",
    "max_wal_size=4GB",
)
FEED: Final = """
[source.rows]
listen = ["bench"]

[source.econiaws]
listen = "econiaws"
kind = "$.channel"
row = "$.payload"

[[websocket.route]]
from = "econiaws"
dialect = "econia"
channel = "{$kind}"
"""
"""What Rowcast's configuration ends with: what the workloads notify, and where Econia's clients find it."""


@functools.cache
def dsn() -> str:
    """Of the running server, which this starts.

    Raises:
        Unavailable: there is no Postgres here, or it doesn't start.
    """
    try:
        binaries, account = find_binaries().directory, unprivileged_account()
    except PostgresError as error:
        raise Unavailable(str(error)) from error
    identity: dict[str, Any] = {}
    directory = Path(tempfile.mkdtemp(prefix="rowcast-bench-pg-"))
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data = directory / "data"
    initdb: list[Word] = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "bench",
        "--auth=trust",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    done = subprocess.run(initdb, cwd="/", capture_output=True, text=True, check=False, **identity)
    if done.returncode:
        raise Unavailable(f"initdb: {done.stderr.strip()[-400:]}")
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", directory, *settings],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **identity,
    )
    atexit.register(_stop, server, directory, os.getpid())
    address = f"host={directory} user=bench dbname=postgres"
    _await(address, server)
    return address


def _await(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            psycopg.connect(address).close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"Postgres does not start: {error}") from error
            time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes], directory: Path, owner: int) -> None:
    if os.getpid() != owner:  # a forked generator ends too
        return
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(directory, ignore_errors=True)
