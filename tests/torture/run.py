"""Torture the feeds: `make torture`, or

    PYTHONPATH=.:tests python tests/torture/run.py --seconds 600 --seed 7 --kind wal

Writers commit numbered rows from several connections in every awkward way; meanwhile backends are ended, the
network is cut and frozen, Postgres is stopped and crashed, and the process that runs the feed is stopped and
killed.  At the end every committed row must have been received, in commit order, rolled-back ones never; none
twice, except from the last unacknowledged position after a kill.  The seed decides everything but timing.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
import trio
from attrs import define
from support.polling import until
from support.ports import free_port
from support.postgres import Cluster
from support.tcp_proxy import TcpProxy, tcp_proxy
from torture.chaos import Chaos, Victim
from torture.ledger import Verdict, judge, read_log
from torture.people import KEPT, NOTIFY, People, as_role
from torture.recorder import torture_config
from torture.subscriber import subscribe_for_ever
from torture.writers import TABLE, Book, Writer

from broker.feed.setup.install import install_steps

HERE = Path(__file__).parent
KINDS = ("wal", "outbox", "listen")
VICTIMS = ("feed", "people", "broker")
"""The feed alone, without and with what people do; the broker with a subscriber."""
WRITERS = 5
SETTLE_S = 90.0
"""How long the feed may be silent, once left in peace, while it owes something."""


@define
class Outcome:
    """What happened in one torture."""

    kind: str
    seed: int
    verdict: Verdict
    deeds: Counter[str]
    errors: str

    def __str__(self) -> str:
        v = self.verdict
        deeds = ", ".join(f"{name} {count}" for name, count in sorted(self.deeds.items()))
        head = (
            f"{self.kind:7} seed {self.seed}: {v.transactions} transactions, {v.publications} rows and messages, "
            f"{v.repeated} repeated over {v.runs} runs; {v.lost} lost with {v.gaps} gaps; {deeds}: "
            f"{'FAILED' if v.faults else 'nothing lost in silence'}"
        )
        return "\n  ".join([head, *v.faults])


async def torture(
    cluster: Cluster,
    kind: str,
    seconds: float,
    seed: int,
    victim_name: str = "feed",
    only: Sequence[str] = (),
) -> Outcome:
    """Torture a feed of one kind on a server of its own, and judge it.

    Args:
        victim_name: `broker`, the whole broker with persistence, and an MQTT client receives; otherwise it is
            the feed alone, and what it publishes is received.  `people` do to the database what costs rows, too.
        only: of what people do; all if there is none.
    """
    broker, people = victim_name == "broker", victim_name == "people"
    chance = random.Random(seed)
    name = cluster.create_database()
    dsn = cluster.dsn(name)
    prepare(kind, dsn, as_role(dsn) if people else dsn)
    book = Book()
    with tempfile.TemporaryDirectory(prefix="rowcast-torture-") as directory:
        log = Path(directory) / "log"
        async with tcp_proxy(cluster.port) as proxy, trio.open_nursery() as nursery:
            through = cluster.dsn(name, port=proxy.port)
            if broker:
                port = free_port()
                victim = Victim(
                    ["-m", "broker", "-c", str(write_config(log.parent, kind, through, port))], log, False
                )
                nursery.start_soon(subscribe_for_ever, port, str(log), lambda: victim.ended)
            else:
                through = as_role(through) if people else through

                def command(kind: str) -> list[str]:
                    return [str(HERE / "recorder.py"), kind, through, str(log)]

                victim = Victim(command(kind), log, True)
            chaos = Chaos(chance.getrandbits(32), cluster, proxy, victim)
            acts = None
            if people:
                acts = People(chance.getrandbits(32), cluster, name, kind, victim, command, chaos.done)
                acts.choose(only)
                chaos.act = acts.act
            try:
                victim.start("")
                await until_live(log)
                await trio.sleep(1.0 if broker else 0.0)  # the subscription is saved
                await work(dsn, kind, book, chaos, seconds, chance)
                if acts is not None:
                    await acts.put_right()
                    has_all = await until_heard(log, Writer(dsn, book, 1, False, 1), proxy)
                settle(book, dsn)
                if acts is None:
                    has_all = await caught_up(log, book, proxy)
                if not has_all:
                    await victim.ask_where_it_waits()
                    print(sessions(dsn), file=sys.stderr)
            finally:
                victim.kill_now()
            nursery.cancel_scope.cancel()
        cluster.drop_database(name)
        verdict = judge(book.transactions, read_log(lines_of(log)), bystander=broker, may_lose=people)
        if verdict.faults:
            kept = Path(tempfile.gettempdir()) / f"rowcast-torture-{kind}-{seed}.log"
            verdict.faults.append(f"the log is kept in {shutil.copy(log, kept)}")
        return Outcome(kind, seed, verdict, chaos.done, victim.errors())


def write_config(directory: Path, kind: str, dsn: str, port: int) -> Path:
    """A broker with one feed, whose sessions survive it."""
    source = 'listen = "torture"' if kind == "listen" else 'tables = ["public.torture"]'
    said = (
        '[source.said]\nlisten = "said"\n[[mqtt.route]]\nfrom = "said"\ntopics = ["torture/{txn}/{number}"]\n'
    )
    recover = "".join(
        f'[[{what}]]\ntable = "public.torture"\nkey = ["number"]\nkind = "torture"\n'
        for what in ("recover", "fetch")
    )
    path = directory / "rowcast.toml"
    path.write_text(f"""
[database]
dsn = "{dsn}"
kind = "{kind}"
name = "torture"
check_interval = "1s"
check_timeout = "2s"
[database.replication]
allow_unbounded_wal = true
poll = "1s"
keep = "5s"
[security]
allow_anonymous = true
[limits]
max_queued_messages = 0
[persistence]
persistence = true
persistence_location = "{directory}"
autosave_interval = 1
autosave_on_changes = true
[[listener]]
host = "127.0.0.1"
port = {port}
[source.rows]
{source}
[[mqtt.route]]
from = "rows"
topics = ["torture/{{txn}}/{{number}}"]
{recover if kind == "listen" else said}
""")
    return path


def prepare(kind: str, dsn: str, feed_dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(KEPT)
        connection.execute(TABLE)
        if kind == "listen":
            connection.execute(NOTIFY)
        for step in install_steps(torture_config(kind, feed_dsn)):
            connection.execute(step.statement)


async def until_live(log: Path) -> None:
    """A feed of kind `listen` owes nothing from before it listens."""
    await until(lambda: "= live\n" in lines_of(log))


async def work(dsn: str, kind: str, book: Book, chaos: Chaos, seconds: float, chance: random.Random) -> None:
    """Writers and chaos side by side; then the writers finish what they began, in peace."""
    ends_at = trio.current_time() + seconds
    # Recovery by key is right for a single writer.  Rows too long for a notification are fetched.
    count, notes_max = (1, 100_000) if kind == "listen" else (WRITERS, 10_000_000)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            writer = Writer(dsn, book, chance.getrandbits(32), kind != "listen", notes_max)
            nursery.start_soon(writer.write_until, lambda: trio.current_time() > ends_at)
        with trio.move_on_at(ends_at):
            await chaos.rage(pause_s=max(0.4, min(3.0, seconds / 12)))


COMMITTED = "SELECT txn FROM torture UNION SELECT txn FROM kept"


async def until_heard(log: Path, writer: Writer, proxy: TcpProxy) -> bool:
    """Commit rows until one has come: then everything before it has, or never will.  False after a long silence."""
    proxy.thaw()
    idents: set[str] = set()
    size = 0
    with trio.move_on_after(SETTLE_S) as scope:
        while not any(line.split(" ")[0] in idents for line in lines_of(log)[-50:]):
            if len(lines_of(log)) > size:
                size = len(lines_of(log))
                scope.deadline = trio.current_time() + SETTLE_S
            with suppress(psycopg.Error, OSError):
                idents.add(str((await writer.write_one()).ident))
            await trio.sleep(0.3)
    await trio.sleep(0.5)
    return not scope.cancelled_caught


def settle(book: Book, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        book.settle({txn for (txn,) in connection.execute(COMMITTED).fetchall()})


async def caught_up(log: Path, book: Book, proxy: TcpProxy) -> bool:
    """Wait until as many lines as committed rows are there; False if nothing more comes for a long time."""
    proxy.thaw()
    wanted = sum(transaction.count() for transaction in book.transactions if transaction.committed)
    seen: set[bytes] = set()
    with log.open("rb") as lines, trio.move_on_after(SETTLE_S) as scope:
        while len(seen) < wanted:
            before = len(seen)
            seen.update(line for line in lines if line[:1].isdigit() and line.endswith(b"\n"))
            if len(seen) > before:
                scope.deadline = trio.current_time() + SETTLE_S
            await trio.sleep(0.2)
    await trio.sleep(0.5)  # for what should not come
    return not scope.cancelled_caught


def sessions(dsn: str) -> str:
    """What the server is doing, for a test that hangs."""
    queries = (
        "SELECT pid, application_name, state, wait_event, left(query, 80) FROM pg_stat_activity WHERE pid > 0",
        "SELECT slot_name, active_pid, restart_lsn, confirmed_flush_lsn FROM pg_replication_slots",
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        return "\n".join(str(row) for query in queries for row in connection.execute(query).fetchall())


def lines_of(log: Path) -> list[str]:
    return log.read_text().splitlines(keepends=True) if log.exists() else []


def configured(cluster: Cluster) -> Cluster:
    """A server that streams all but small transactions, and notices dead receivers soon."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
        connection.execute("ALTER SYSTEM SET wal_sender_timeout = '3s'")
        connection.execute("SELECT pg_reload_conf()")
    return cluster


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="for all trials together")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kind", choices=KINDS, action="append", help="may be repeated; all by default")
    parser.add_argument("--victim", choices=VICTIMS, help="the feed alone, people beside it, or the broker")
    parser.add_argument(
        "--act", action="append", default=[], help="of people; may be repeated; all by default"
    )
    args = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if args.seed is None else args.seed
    trials = [
        (kind, victim) for kind in args.kind or KINDS for victim in VICTIMS if args.victim in (victim, None)
    ]
    seconds = args.seconds / len(trials)
    print(f"seed {seed}, {seconds:g} s each", flush=True)
    failed = False
    for kind, victim in trials:
        cluster = configured(Cluster())
        outcome = trio.run(torture, cluster, kind, seconds, seed, victim, args.act)
        cluster.close()
        print(f"{victim:6} {outcome}", flush=True)
        if outcome.verdict.faults:
            failed = True
            print(outcome.errors[-5000:], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
