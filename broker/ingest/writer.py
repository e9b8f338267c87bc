"""The task of one sink: batch after batch over one connection, in order, for as long as it takes.

What the database can't do now (a deadlock, a failover, a server that is away) is done again; what it will never do (a
value that is none, a constraint, a trigger that is cancelled each time) is refused, found by halving the batch.  The
rest of the batch is written.

Invariant: a message is settled once: after the COMMIT of its row, or of its dead letter, or after it was counted.
"""

from __future__ import annotations

import logging
import random
from typing import Any, Final

import psycopg
import trio
from psycopg import pq
from psycopg.raw_cursor import AsyncRawCursor

from broker.config.feeds import FeedConfig
from broker.core.engine import Engine
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import quoted_name, split_name
from broker.ingest.batches import Batch, Batches
from broker.ingest.blame import Blame, execute
from broker.ingest.message_ids import is_unknown, prefix_of
from broker.ingest.plan import (
    COLUMNS_SQL,
    FUNCTION_SQL,
    TARGET_SQL,
    Plan,
    function_plan,
    table_plan,
)
from broker.ingest.refusals import Again, TableChanged, is_for_people, is_refusal, reason_of
from broker.ingest.rows import Rows
from broker.ingest.sink import Sink, Waiting
from broker.ingest.times import time_text
from broker.ingest.values import Value
from protocol.mqtt.v5.reasons import ReasonCode

logger = logging.getLogger("broker.ingest")

HAND_OVER_S: Final = 2.0
"""So long may a sink whose settings have changed go on with the ones it had."""
PAUSE_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 10.0
RETRY_S_MIN: Final = 0.01
RETRY_S_MAX: Final = 1.0
REASON_CHARACTERS_MAX: Final = 1000

LOOK_AGAIN_S: Final = 5.0
"""So old may what is known of the table be when a batch is written: a column's type may change without any error."""


class Writer:
    """Writes what waits in one sink.

    Args:
        database: where to; sink: what; engine: whose turns settle messages.
    """

    def __init__(self, database: FeedConfig, sink: Sink, engine: Engine) -> None:
        self._database = database
        self._sink = sink
        self._engine = engine
        self._batches = Batches(sink)
        self._refused: list[tuple[Waiting, str]] = []
        self._blame = Blame(sink, self._batches)
        self._running = trio.CancelScope()
        self._known_since = 0.0
        self._is_removed = False
        self._is_checked = False
        """The catalogue was looked at since this batch was begun."""
        self.finished = trio.Event()
        """Everything is written, after `end`."""

    def end(self) -> None:
        """Nothing more comes: write what waits, and return from `run`."""
        self._batches.end()

    def remove(self) -> None:
        """As `end`, and nobody follows: what has no table to go to is given up."""
        self._is_removed = True
        self._batches.end()

    async def succeed(self, former: Writer) -> None:
        """As `run`, after another whose rows stand before ours; what it can't write in time is ours, too."""
        with trio.move_on_after(HAND_OVER_S):
            await former.finished.wait()
        former._running.cancel()
        await former.finished.wait()
        with self._engine.turn:
            self._sink.inherit(former._sink, former._batches.unsettled())
        await self.run()

    async def run(self) -> None:
        """Write until cancelled, or until everything is written after `end`."""
        try:
            with self._running:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._batches.keep_taking)
                    await self._keep_writing()
                    nursery.cancel_scope.cancel()
        finally:
            self.finished.set()

    async def _keep_writing(self) -> None:
        pause_s = PAUSE_S_MIN
        sink = self._sink
        while not self._batches.is_done:
            settled = sink.settled
            try:
                await self._attempt()
            except TableChanged:
                continue
            except (psycopg.Error, OSError) as error:
                sink.enter("waiting", first_line(error))
                sink.say("away", f"{sink.problem}; trying again")
                if self._is_removed and is_for_people(error):
                    self._give_up(sink.problem)
            if sink.settled != settled:
                pause_s = PAUSE_S_MIN
            if not self._batches.is_done:
                await trio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def _attempt(self) -> None:
        sink = self._sink
        name = f"rowcast sink {sink.config.name}"
        async with connected(
            self._database, "SET row_security = on", application_name=name[:63]
        ) as connection:
            plan = await load_plan(connection, sink)
            if plan.problems:
                problem = "; ".join(f"{one.text}: {one.cure}" for one in plan.problems)
                sink.enter("waiting", problem)
                sink.say("plan", problem)
                if self._is_removed:
                    self._give_up(problem)
                return
            for one in plan.advice:
                sink.say(one.text, f"{one.text}: {one.cure}")
            connection.prepare_threshold = 0
            self._known_since = trio.current_time()
            rows = self._batches.rows = Rows(sink.config, plan.types)
            if not self._has_failed():
                self._is_live()
            while (batch := await self._batches.first()) is not None:
                if trio.current_time() - self._known_since >= LOOK_AGAIN_S:
                    await self._check_table(connection, plan)
                await self._write(connection, plan, rows, batch)
                self._batches.written()
                if sink.state != "live":
                    self._is_live()

    def _has_failed(self) -> bool:
        """Whether the last thing that was tried is waiting to be tried again: `live` is said when it is written."""
        return self._sink.state == "waiting" and self._batches.holds_any

    def _is_live(self) -> None:
        sink = self._sink
        sink.enter("live")
        logger.info("sink %s: writes to %s", sink.config.name, sink.config.target)

    def _give_up(self, problem: str) -> None:
        """Nobody will mend the table of a sink that is no longer configured: its publishers are told."""
        sink = self._sink
        with self._engine.turn:
            left = [*self._batches.give_up(), *sink.take_all()]
            if left:
                logger.warning(
                    "sink %s: %d messages were never written: the sink was removed, and %s",
                    sink.config.name,
                    len(left),
                    problem,
                )
                sink.refused += len(left)
                sink.settle(left, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)

    async def _check_table(self, connection: TrioConnection, plan: Plan) -> None:
        """Look at the catalogue again.

        Raises:
            TableChanged: the statement is not the right one any more.
        """
        now = await load_plan(connection, self._sink)
        if now != plan:
            raise TableChanged(f"{self._sink.config.target} has changed")
        self._known_since = trio.current_time()

    async def _write(self, connection: TrioConnection, plan: Plan, rows: Rows, batch: Batch) -> None:
        """Write the whole batch, however often it takes."""
        pause_s = RETRY_S_MIN
        patience = self._blame.patience
        messages: list[Waiting] = []
        while batch.messages:
            try:
                if plan.newest_id and await self._ask_for_ids(connection, plan, batch.messages):
                    batch.made = None
                messages, columns, refused = batch.make(rows)
                self._refused = list(refused)
                self._is_checked = False
                count = patience.together(len(messages))
                if count < len(messages):
                    messages, columns = messages[:count], [one[:count] for one in columns]
                await self._insert(connection, plan, messages, columns)
                await self._bury(connection, plan)
                patience.worked(count)
            except Again as again:
                patience.failed(len(messages))
                self._sink.retried += 1
                self._sink.say("again", f"tried again: {again}")
                if pause_s == RETRY_S_MAX:
                    self._sink.enter("waiting", str(again))
                    await self._check_table(connection, plan)
                await trio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, RETRY_S_MAX)
            finally:
                batch.forget_settled()

    async def _insert(
        self, connection: TrioConnection, plan: Plan, messages: list[Waiting], columns: list[list[Value]]
    ) -> None:
        """Write these rows in one transaction, or else each half of them."""
        if not messages:
            return
        try:
            await execute(connection, plan.statement, columns)
        except (psycopg.Error, UnicodeEncodeError) as error:
            if not await self._is_refusal(connection, plan, error, columns):
                raise
            if len(messages) == 1:
                self._refused.append((messages[0], reason_of(error)))
                return
            middle = len(messages) // 2
            await self._insert(connection, plan, messages[:middle], [one[:middle] for one in columns])
            await self._insert(connection, plan, messages[middle:], [one[middle:] for one in columns])
        else:
            self._blame.patience.moved_on()
            self._sink.written += len(messages)
            self._sink.batches += 1
            self._settle(messages)

    async def _is_refusal(
        self,
        connection: TrioConnection,
        plan: Plan,
        error: psycopg.Error | UnicodeEncodeError,
        columns: list[list[Value]],
    ) -> bool:
        """Whether a row is to blame, and not what has become of the table since the statement was made.

        Args:
            columns: what `plan.statement` was given; none where it was another statement.

        Raises:
            Again: the same rows may be written if they are tried again.
            TableChanged: by another statement.
        """
        if isinstance(error, psycopg.Error) and (
            connection.closed or connection.pgconn.status != pq.ConnStatus.OK
        ):
            return False
        try:
            blames_a_row = is_refusal(error)
        except Again:
            assert isinstance(error, psycopg.Error)
            refused = [one for one, _ in self._refused]
            now = trio.current_time()
            if not await self._blame.is_due(connection, plan.statement, error, columns, refused, now):
                raise
            blames_a_row = True
        if not blames_a_row and columns and is_for_people(error):
            blames_a_row = await self._is_no_value(connection, plan, columns)
        if not blames_a_row:
            return False
        if not self._is_checked:
            await self._check_table(connection, plan)
            self._is_checked = True
        return True

    async def _is_no_value(self, connection: TrioConnection, plan: Plan, columns: list[list[Value]]) -> bool:
        """Whether one of these values is none of its type, though the type is there.

        Some types (regclass, those of extensions) say so by a code that otherwise tells of a faulty statement.  A
        function that a domain's check calls, which Postgres names in the context, may mean what it says.
        """
        try:
            await execute(connection, plan.values, columns)
        except psycopg.Error as error:
            if not is_for_people(error) or error.diag.context:
                return False
        else:
            return False
        await execute(connection, plan.values, [[] for _ in columns])
        return True

    async def _bury(self, connection: TrioConnection, plan: Plan) -> None:
        """What was refused goes to the dead letters, where there are any; then nobody waits for it any more."""
        refused = self._refused
        if not refused:
            return
        sink = self._sink
        kept = 0
        if plan.dead_letter:
            kept = await self._keep_letters(connection, plan, refused)
        sink.refused += len(refused)
        sink.dead_letters += kept
        where = f"in {sink.config.dead_letters}" if kept == len(refused) else "dropped"
        topic = refused[0][0].levels[-1]
        sink.say("refused", f"{len(refused)} refused, {where}; the first, of {topic}: {refused[0][1]}")
        self._settle([one for one, _ in refused], ReasonCode.PAYLOAD_FORMAT_INVALID)

    async def _keep_letters(
        self, connection: TrioConnection, plan: Plan, refused: list[tuple[Waiting, str]]
    ) -> int:
        rows = [_letter(self._sink.config.name, one, reason) for one, reason in refused]
        try:
            await execute(connection, plan.dead_letter, [list(one) for one in zip(*rows, strict=True)])
        except psycopg.Error as error:
            if not await self._is_refusal(connection, plan, error, []):
                raise
            self._sink.say("buried", f"{self._sink.config.dead_letters}: {first_line(error)}")
            return 0
        self._blame.letters_patience.worked(len(rows))
        return len(rows)

    async def _ask_for_ids(self, connection: TrioConnection, plan: Plan, messages: list[Waiting]) -> bool:
        """Messages that were perhaps sent before this process began get the ids they had then; whether any were."""
        asked = [one for one in messages if is_unknown(one.message_id)]
        for one in asked:
            prefix = prefix_of(one.publication)
            cursor: AsyncRawCursor[Any] = AsyncRawCursor(connection)
            await cursor.execute(plan.newest_id, [prefix, prefix[:-1] + ";"])
            row = await cursor.fetchone()
            newest = None if row is None else row[0]
            one.message_id = self._sink.ids.found(one.publication, one.message_id, newest)
        return bool(asked)

    def _settle(self, batch: list[Waiting], code: int = 0) -> None:
        with self._engine.turn:
            self._sink.settle(batch, code)


async def load_plan(connection: TrioConnection, sink: Sink) -> Plan:
    """What the catalogue says of this sink's table or function."""
    config = sink.config
    dead: Any = (None, False)
    if config.dead_letters:
        name = quoted_name(config.dead_letters)
        dead = await (await connection.execute(TARGET_SQL, [name] * 3)).fetchone()
    if config.function:
        schema, last = split_name(config.function)
        parameters = [last, schema, schema, len(config.columns)]
        found = await (await connection.execute(FUNCTION_SQL, parameters)).fetchall()
        return function_plan(config, found, dead)
    name = quoted_name(config.table)
    target: Any = await (await connection.execute(TARGET_SQL, [name] * 3)).fetchone()
    columns = await (await connection.execute(COLUMNS_SQL, [name])).fetchall()
    return table_plan(config, target, columns, dead)


def _letter(name: str, one: Waiting, reason: str) -> list[Value]:
    publication = one.publication
    return [
        time_text(one.received_ns // 1000),
        name,
        one.levels[-1],
        "\\x" + one.payload.hex(),
        publication.client_id.decode(errors="replace"),
        str(publication.qos),
        reason.replace("\0", "")[:REASON_CHARACTERS_MAX].encode(errors="replace").decode(),
    ]
