"""A private PostgreSQL for a test session, and a database of its own for each test.

Fixtures, for a `conftest.py` to import: `cluster` (the server, one per process), `database` (a fresh, empty
database's connection string) and `kept_database` (one for a whole module).  A test that stops the server must start
it again (`cluster.restart`).

The server ends with this process however that ends: a helper waits for its standard input to close.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.initdb import RUN, quick_initdb
from support.polling import until_blocking
from support.ports import free_port

SETTINGS = """
fsync = off
full_page_writes = off
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 60
max_prepared_transactions = 5
shared_buffers = 32MB
autovacuum = off
wal_sender_timeout = 10s
TimeZone = 'UTC'
"""
"""`wal_level = logical` so that every kind of feed can be tested on one server; the rest is for speed."""


def binaries() -> Path:
    """Where initdb and pg_ctl are: as POSTGRES_BIN says, else Debian's folder of the newest version, else in PATH."""
    if chosen := os.environ.get("POSTGRES_BIN"):
        return Path(chosen)
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("no PostgreSQL server here: `apt-get install postgresql`")
    return Path(found).parent


END_SESSIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend'
"""

RIGHTS = "SELECT datacl FROM pg_database WHERE datname = %s"

SETTING_ROLES = """
SELECT rolname FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s
"""

EMPTYING = """
SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication
UNION ALL SELECT format('DROP EVENT TRIGGER %I', evtname) FROM pg_event_trigger
UNION ALL SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace
WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'public')
UNION ALL SELECT 'DROP SCHEMA public CASCADE'
UNION ALL SELECT 'CREATE SCHEMA public AUTHORIZATION pg_database_owner'
UNION ALL SELECT 'GRANT USAGE ON SCHEMA public TO PUBLIC'
"""
"""The statements that leave nothing but an empty schema `public`, as a new database has it."""


class Cluster:
    """One PostgreSQL server with its data, on a free port of 127.0.0.1 and on a unix socket."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rowcast-pg-", dir="/tmp"))
        self.data = self.directory / "data"
        self.port = free_port()
        self._as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._bin = binaries()
        self._databases = 0
        self._free: list[str] = []
        if self._as_owner:
            shutil.chown(self.directory, "postgres")
        self._fill()
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(SETTINGS)
            conf.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n")
            conf.write(f"unix_socket_directories = '{self.directory}'\n")
        self._end_with_us()
        self.start()

    def _fill(self) -> None:
        """Make the data."""
        initdb = quick_initdb(self._bin) if RUN in os.environ else self._bin
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8",
                  "--locale=C.UTF-8", f"--pgdata={self.data}", folder=initdb)  # fmt: skip

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-t", "300", "-D", self.data, "-l", self.directory / "log")

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends every session and saves; `immediate` is a crash, with recovery at the next start."""
        self._run("pg_ctl", "stop", "-w", "-t", "300", "-m", mode, "-D", self.data)

    def stop_if_running(self) -> None:
        """As `stop`, at once, whatever it is doing; nothing where it is not running."""
        with contextlib.suppress(AssertionError):
            self.stop("immediate")

    def restart(self, mode: str = "fast", closed_s: float = 0.0) -> None:
        """Stop, stay away for `closed_s` seconds, start: blocking, so from a Trio test in a thread."""
        self.stop(mode)
        time.sleep(closed_s)
        self.start()

    def dsn(self, database: str = "postgres", port: int | None = None, unix: bool = False) -> str:
        """How to reach a database over TCP (through `port`, say a proxy's) or over the unix socket."""
        host = str(self.directory) if unix else "127.0.0.1"
        return f"host={host} port={port or self.port} user=postgres dbname={database}"

    def create_database(self, template: str = "template1") -> str:
        """A new database's name.  `template` may be one of ours, with its schema loaded, that nobody uses."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            _end_slots(connection, name)
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def borrow_database(self) -> str:
        """An empty database's name: one that was given back, since making one takes a good part of a second."""
        return self._free.pop() if self._free else self.create_database()

    def give_back(self, name: str) -> None:
        """Empty a database for the next borrower; drop it if more than its contents was changed."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            _end_slots(connection, name)
            connection.execute(END_SESSIONS, [name])
            connection.execute(f'ALTER DATABASE "{name}" RESET ALL')
            for (role,) in connection.execute(SETTING_ROLES, [name]).fetchall():
                connection.execute(f'ALTER ROLE "{role}" IN DATABASE "{name}" RESET ALL')
            changed = connection.execute(RIGHTS, [name]).fetchone() != (None,)
        if changed:
            self.drop_database(name)
            return
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            for statement in connection.execute(EMPTYING).fetchall():
                connection.execute(*statement)
        self._free.append(name)

    def close(self) -> None:
        """Stop the server and remove its data, before this process ends."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()

    def _run(self, program: str, *arguments: str | Path, folder: Path | None = None) -> None:
        command = [*self._as_owner, str((folder or self._bin) / program), *map(str, arguments)]
        # Not to a pipe: the server would inherit it, and we would wait for the server to end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(command, stdout=output, stderr=output, cwd="/", check=False)
            output.seek(0)
            assert done.returncode == 0, f"{shlex.join(command)}: {output.read().decode()}"

    def _end_with_us(self) -> None:
        stop = shlex.join([*self._as_owner, str(self._bin / "pg_ctl"), "stop", "-m", "immediate"])
        script = f"trap '' INT TERM; cat; {stop} -D {self.data}; rm -rf {self.directory}"
        self._keeper = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


class Standby(Cluster):
    """A copy of another server that follows it, synchronously: what is committed there is here."""

    def __init__(self, primary: Cluster) -> None:
        self._primary = primary
        super().__init__()
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            is_synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            until_blocking(lambda: connection.execute(is_synchronous).fetchone() is not None)

    def _fill(self) -> None:
        self._run("pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
                  f"--pgdata={self.data}", f"--dbname={self._primary.dsn()}")  # fmt: skip

    def promote(self) -> None:
        """Go on alone, waiting for no standby."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")

    def dsn_of_both(self, database: str = "postgres") -> str:
        """Whichever of the two takes writes."""
        ports = f"{self._primary.port},{self.port}"
        return f"host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname={database} target_session_attrs=read-write"


@functools.cache
def shared_cluster() -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return shared_cluster()


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Standby]]:
    """A primary and its synchronous standby, of their own."""
    primary = Cluster()
    standby = Standby(primary)
    yield primary, standby
    standby.close()
    primary.close()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """An empty database's connection string over TCP."""
    name = cluster.borrow_database()
    yield cluster.dsn(name)
    cluster.give_back(name)


@pytest.fixture(scope="module")
def kept_database(cluster: Cluster) -> Iterator[str]:
    """The same for all tests of a module, which undo what they do."""
    name = cluster.borrow_database()
    yield cluster.dsn(name)
    cluster.give_back(name)


def _end_slots(connection: psycopg.Connection[tuple[object, ...]], database: str) -> None:
    slots = "SELECT slot_name FROM pg_replication_slots WHERE database = %s"
    for (slot,) in connection.execute(slots, [database]).fetchall():
        _end_slot(connection, slot)


def _end_slot(connection: psycopg.Connection[tuple[object, ...]], slot: object) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        " WHERE slot_name = %s AND active_pid IS NOT NULL",
        [slot],
    )

    def is_dropped() -> bool:
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        except psycopg.errors.ObjectInUse:
            return False
        except psycopg.errors.UndefinedObject:
            return True  # a temporary one, which has gone with its connection
        return True

    until_blocking(is_dropped)
