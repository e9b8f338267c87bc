"""What people do to a database while a feed runs: DDL, installations, another kind, policies, other databases.

Each act ends with an installation, as its author would do it once told of what is wrong.  Meanwhile rows may be lost;
then a gap has to be announced before the next row (`ledger.judge` with `may_lose`).
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import psycopg
import trio
from support.postgres import Cluster, binaries
from torture.chaos import Victim
from torture.ledger import KILLED, STOPPED
from torture.recorder import torture_config
from torture.writers import TABLE

from broker.feed.setup.install import install_steps, remove_steps

ROLE = "rowcast_torture"
"""The feed's own, with the privileges that an installation gives it, so that row security holds for it."""

END_SESSIONS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"

INSTALLING = "torture_install"

KEPT = "CREATE TABLE kept (txn bigint)"
"""Which transactions have committed, of tables that were dropped."""

TELL = "CREATE TRIGGER tell AFTER INSERT ON torture FOR EACH ROW EXECUTE FUNCTION tell()"

NOTIFY = f"""
CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    message text := row_to_json(NEW);
BEGIN
    IF octet_length(message) >= 8000 THEN
        message := json_build_object('number', NEW.number);
    END IF;
    PERFORM pg_notify('torture', message);
    RETURN NULL;
END $$;
{TELL};
"""
"""Long rows are told by their key, and read by a [[fetch]]."""


class People:
    """One act after another, seeded.  `done` counts them by name.

    Args:
        kind: of the feed, at first.
        command: the victim's, for a kind.
    """

    def __init__(
        self,
        seed: int,
        cluster: Cluster,
        database: str,
        kind: str,
        victim: Victim,
        command: Callable[[str], list[str]],
        done: Counter[str],
    ) -> None:
        self._random = random.Random(seed)
        self._cluster = cluster
        self._dsn = cluster.dsn(database)
        self._kind_now = kind
        self._victim = victim
        self._command = command
        self._done = done
        self._renamed = 0
        self._acts = [
            "again",
            "half",
            "type",
            "columns",
            "identity",
            "policy",
            "other_database",
            "other_database",
        ]
        self._acts += ["timeouts", "search_path", "schema", "restore", "ended"]
        if kind == "listen":
            self._acts += ["rebuild", "untold"]
        else:
            self._acts += [
                "left_out",
                "left_out",
                "capture",
                "rename",
                "recreate",
                "other_schema",
                "truncate",
                "taken",
                "slot",
                "moved",
                "kind",
                "update_route",
                "altered",
                "altered",
            ]
        self._round = list(self._acts)

    def choose(self, names: Sequence[str]) -> None:
        """Do nothing but these; all if there is none."""
        self._acts = [name for name in self._acts if name in names or not names]
        self._round = list(self._acts)

    async def act(self) -> None:
        """The next act, to its end."""
        if not self._round:
            self._round = list(self._acts)
        name = self._round.pop(self._random.randrange(len(self._round)))
        self._done[name] += 1
        with trio.CancelScope(shield=True):
            await getattr(self, f"_{name}")()
            await self.put_right()

    async def put_right(self) -> None:
        """Install until it succeeds: a busy table's lock may not be had at once."""
        while not await trio.to_thread.run_sync(self._install, self._dsn):  # noqa: ASYNC110
            await trio.sleep(0.2)

    def _install(self, dsn: str, part: float = 1.0) -> bool:
        steps = install_steps(torture_config(self._kind_now, as_role(dsn)))
        try:
            with psycopg.connect(dsn, autocommit=True, application_name=INSTALLING) as connection:
                for step in steps[: round(len(steps) * part)]:
                    connection.execute(step.statement)
        except psycopg.Error:
            return False
        return True

    async def _run(self, *statements: str) -> None:
        """In one transaction, tried again while something stands in the way."""

        def run() -> bool:
            try:
                with psycopg.connect(self._dsn) as connection:
                    connection.execute("SET LOCAL lock_timeout = '5s'")
                    for statement in statements:
                        connection.execute(statement)
            except psycopg.Error:
                return False
            return True

        while not await trio.to_thread.run_sync(run):  # noqa: ASYNC110
            await trio.sleep(0.2)

    async def _meanwhile(self) -> None:
        """Rows are written; perhaps the feed is stopped or killed, and comes back before all is put right."""
        await trio.sleep(self._random.choice([0.0, 0.2, 1.0]))
        ending = self._random.choice(["", "", STOPPED, KILLED])
        if ending:
            await self._victim.end(signal.SIGTERM if ending == STOPPED else signal.SIGKILL)
            await trio.sleep(self._random.choice([0.0, 0.3]))
            self._victim.start(ending)
            await trio.sleep(self._random.choice([0.0, 1.0]))

    async def _again(self) -> None:
        """Nothing but an installation."""

    async def _half(self) -> None:
        """An installation that is cut off."""
        await trio.to_thread.run_sync(self._install, self._dsn, self._random.random())
        await self._meanwhile()

    async def _ended(self) -> None:
        """An installation whose session somebody ends, wherever it is."""
        end = (
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{INSTALLING}'"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, lambda: self._install(self._dsn))
            await trio.sleep(self._random.uniform(0.0, 0.1))
            await self._run(end)
        await self._meanwhile()

    async def _restore(self) -> None:
        """The table as a dump has it, with its triggers, in place of what it is."""
        dump = [
            str(binaries() / "pg_dump"),
            "--schema-only",
            "--table",
            "public.torture",
            "--dbname",
            self._dsn,
        ]
        done = await trio.run_process(dump, capture_stdout=True, stdin=b"")
        text = "\n".join(line for line in done.stdout.decode().splitlines() if not line.startswith("\\"))
        await self._run(
            "LOCK TABLE torture",
            "INSERT INTO kept SELECT DISTINCT txn FROM torture",
            "DROP TABLE torture",
            text,
        )
        await self._meanwhile()

    async def _taken(self) -> None:
        """Rows of the outbox, by somebody who thinks that they are old."""
        if self._kind_now == "outbox":
            await self._run("DELETE FROM rowcast.outbox")
            await self._meanwhile()

    async def _untold(self) -> None:
        """The trigger off for a while; the session is ended, since a feed looks at its triggers every 30 s only."""
        await self._run("ALTER TABLE torture DISABLE TRIGGER tell")
        await self._meanwhile()
        await self._run("ALTER TABLE torture ENABLE TRIGGER tell", END_SESSIONS)

    async def _columns(self) -> None:
        await self._run("ALTER TABLE torture ADD COLUMN more integer", "ALTER TABLE torture DROP COLUMN more")

    async def _identity(self) -> None:
        what = self._random.choice(["NOTHING", "FULL", "DEFAULT"])
        await self._run(f"ALTER TABLE torture REPLICA IDENTITY {what}")
        await self._meanwhile()

    async def _timeouts(self) -> None:
        """As somebody sets them for programs that forget their sessions."""
        names = (
            "idle_session_timeout",
            "idle_in_transaction_session_timeout",
            "statement_timeout",
            "lock_timeout",
        )
        await self._set(names, "300ms")

    async def _search_path(self) -> None:
        await self._set(("search_path",), self._random.choice(["nowhere", "pg_catalog"]))

    async def _set(self, names: tuple[str, ...], value: str) -> None:
        await self._run(*(f"ALTER ROLE {ROLE} SET {name} = '{value}'" for name in names), END_SESSIONS)
        await self._meanwhile()
        await self._run(*(f"ALTER ROLE {ROLE} RESET {name}" for name in names))

    async def _schema(self) -> None:
        if self._kind_now == "outbox":
            return  # then numbers begin anew, and can't be compared
        await self._run("DROP SCHEMA rowcast CASCADE")
        await self._meanwhile()

    async def _rebuild(self) -> None:
        """The same rows in another table, as tools do it that make tables small."""
        await self._run(
            "LOCK TABLE torture",
            "CREATE TABLE rebuilt (LIKE torture INCLUDING ALL)",
            "INSERT INTO rebuilt SELECT * FROM torture",
            "DROP TABLE torture",
            "ALTER TABLE rebuilt RENAME TO torture",
            TELL,
        )
        await self._meanwhile()

    async def _truncate(self) -> None:
        await self._run(
            "LOCK TABLE torture", "INSERT INTO kept SELECT DISTINCT txn FROM torture", "TRUNCATE torture"
        )

    async def _other_schema(self) -> None:
        self._renamed += 1
        await self._run(
            "LOCK TABLE torture",
            "INSERT INTO kept SELECT DISTINCT txn FROM torture",
            f"CREATE SCHEMA aside_{self._renamed}",
            f"ALTER TABLE torture SET SCHEMA aside_{self._renamed}",
            TABLE,
        )
        await self._meanwhile()

    async def _type(self) -> None:
        kind = self._random.choice(["bigint", "integer"])
        await self._run(f"ALTER TABLE torture ALTER COLUMN size TYPE {kind}")

    async def _policy(self) -> None:
        """For those who read the table: the feed has to wait, and to lose nothing."""
        await self._run("ALTER TABLE torture ENABLE ROW LEVEL SECURITY")
        await self._meanwhile()
        await self._run("ALTER TABLE torture DISABLE ROW LEVEL SECURITY")

    async def _other_database(self) -> None:
        def another() -> None:
            name = self._cluster.create_database()
            dsn = self._cluster.dsn(name)
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(TABLE)
                if self._install(dsn):
                    connection.execute("INSERT INTO torture VALUES (-1, -1, 1, 'x')")
                for step in remove_steps(torture_config(self._kind_now, as_role(dsn))):
                    connection.execute(step.statement)
            self._cluster.drop_database(name)

        try:
            await trio.to_thread.run_sync(another)
        except psycopg.Error:
            self._done["other_database failed"] += 1

    async def _left_out(self) -> None:
        if self._kind_now == "wal":
            await self._run("ALTER PUBLICATION rowcast_torture DROP TABLE torture")
        else:
            await self._run("ALTER TABLE torture DISABLE TRIGGER rowcast_capture")
        await self._meanwhile()

    async def _capture(self) -> None:
        if self._kind_now == "wal":
            await self._run("DROP PUBLICATION rowcast_torture")
        else:
            await self._run("DROP TRIGGER rowcast_capture ON torture")
        await self._meanwhile()

    async def _rename(self) -> None:
        self._renamed += 1
        await self._run(
            "LOCK TABLE torture",
            "INSERT INTO kept SELECT DISTINCT txn FROM torture",
            f"ALTER TABLE torture RENAME TO torture_{self._renamed}",
            f"ALTER INDEX torture_pkey RENAME TO torture_{self._renamed}_pkey",
            TABLE,
        )
        await self._meanwhile()

    async def _recreate(self) -> None:
        await self._run(
            "LOCK TABLE torture",
            "INSERT INTO kept SELECT DISTINCT txn FROM torture",
            "DROP TABLE torture",
            TABLE,
        )
        await self._meanwhile()

    async def _slot(self) -> None:
        await self._run(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()"
            " AND active",
        )
        await self._run(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE database = current_database() AND NOT active"
        )
        await self._meanwhile()

    async def _moved(self) -> None:
        """The slot is moved while the feed, killed or stopped, is away."""
        if self._kind_now == "wal":
            ending = self._random.choice([STOPPED, KILLED, KILLED])
            await self._victim.end(signal.SIGTERM if ending == STOPPED else signal.SIGKILL)
            await trio.sleep(self._random.choice([0.0, 0.5]))
            move = self._random.choice(
                [
                    "pg_replication_slot_advance(slot_name, pg_current_wal_lsn())",
                    "pg_drop_replication_slot(slot_name), pg_create_logical_replication_slot(slot_name, 'pgoutput')",
                ]
            )
            await self._run(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                " WHERE database = current_database() AND active",
            )
            await self._run(f"SELECT {move} FROM pg_replication_slots WHERE database = current_database()")
            self._victim.start(ending)
            await self._meanwhile()

    async def _update_route(self) -> None:
        """Somebody adds to the publication, or to the trigger, what no route wants, and it is taken back."""
        if self._kind_now == "wal":
            await self._run("ALTER PUBLICATION rowcast_torture_update ADD TABLE torture")
        else:
            await self._run("ALTER TABLE torture ENABLE TRIGGER rowcast_capture")
        await self._meanwhile()

    async def _altered(self) -> None:
        """What captures is replaced while writers are open, and put back by hand: neither waits for any of them."""
        if self._kind_now == "wal":
            away, back = (
                f"ALTER PUBLICATION rowcast_torture {verb} TABLE torture" for verb in ("DROP", "ADD")
            )
        else:
            name, kind, body = self._random.choice(
                [("outbox_capture()", "trigger", "RETURN NULL;"), ("outbox_mark()", "void", "")]
            )
            idle = f"RETURNS {kind} LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
            away = f"CREATE OR REPLACE FUNCTION rowcast.{name} {idle}"
            back = await trio.to_thread.run_sync(self._definition, f"rowcast.{name}")
        await self._run(away)
        await self._meanwhile()
        if self._random.random() < 0.7:
            await self._run(back)
            await self._meanwhile()

    def _definition(self, function: str) -> str:
        while True:
            with suppress(psycopg.Error), psycopg.connect(self._dsn) as connection:
                row = connection.execute("SELECT pg_get_functiondef(%s::regprocedure)", [function]).fetchone()
                assert row is not None
                return str(row[0])

    async def _kind(self) -> None:
        ending = self._random.choice([STOPPED, KILLED])
        await self._victim.end(signal.SIGTERM if ending == STOPPED else signal.SIGKILL)
        self._kind_now = "outbox" if self._kind_now == "wal" else "wal"
        await trio.sleep(self._random.choice([0.0, 0.5]))
        early = self._random.random() < 0.5
        if early:  # then it waits, and says so
            self._victim.command = self._command(self._kind_now)
            self._victim.start(ending)
        await self.put_right()
        if not early:
            self._victim.command = self._command(self._kind_now)
            self._victim.start(ending)


def as_role(dsn: str) -> str:
    return dsn.replace("user=postgres", f"user={ROLE}")
