"""The demo of a cluster: rows and messages go on while a client moves, a node is killed, and a NATS server is killed.

Two clients count: one that stays on the last node, and has to get everything exactly once (as long as that node has a
quorum: one that has none closes its clients, and the client comes back to it), and one that goes from node to node with
a persistent session, and has to miss nothing; what its node had not written down when it was killed comes to it a
second time.  The writer, whose node may die between a message and its acknowledgement, publishes it anew on another
one, as QoS 1 wants it: that is another message, and its payload says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

import trio
from attrs import Factory, define

from broker.config.toml import configuration as toml
from broker.demo import gateway
from broker.demo.clients import HOST, ClientError
from broker.demo.nodes.client import GONE, Connection
from broker.demo.nodes.servers import Servers, running_servers
from broker.demo.postgres import running_postgres
from broker.feed.driver.connection import TrioConnection
from protocol.mqtt.packets import Puback, Publish, Subscribe

START_S: Final = 90.0
LAST_S: Final = 60.0
ACKNOWLEDGED_S = 10.0
"""So long a writer waits."""
EVENTS: Final = 3000
FILTERS: Final = ((b"orders/#", 1), (b"chat/#", 1))

Key = tuple[bytes, bytes]
"""Topic and payload of one message."""


@define
class Counts:
    """What was done, and what each of the two clients got."""

    committed: int = 0
    acknowledged: int = 0
    anew: int = 0
    """Messages that the writer published again, which had no acknowledgement."""
    stays: Counter[Key] = Factory(Counter)
    moves: Counter[Key] = Factory(Counter)
    moved: int = 0
    returned: int = 0
    """How often the client that stays was closed by its node, as by one that reaches no quorum for a while."""

    def wanted(self) -> set[bytes]:
        """Topics: each row and each message has its own."""
        rows = {b"orders/%d" % number for number in range(1, self.committed + 1)}
        return rows | {b"chat/%d" % number for number in range(1, self.acknowledged + 1)}

    def missing(self, got: Counter[Key]) -> int:
        """How many of the topics that are wanted did not come."""
        return len(self.wanted() - {topic for topic, _ in got})

    def figures(self) -> dict[str, int]:
        """All of it, as it is shown."""
        return {
            "rows": self.committed,
            "messages": self.acknowledged,
            "published_anew": self.anew,
            "stays_missing": self.missing(self.stays),
            "stays_twice": sum(count > 1 for count in self.stays.values()),
            "stays_returned": self.returned,
            "moves_missing": self.missing(self.moves),
            "moves_twice": sum(count > 1 for count in self.moves.values()),
            "moved": self.moved,
        }


class Cluster:
    """The demo while it runs."""

    def __init__(self, servers: Servers, out: TextIO, as_json: bool) -> None:
        self.counts = Counts()
        self._servers = servers
        self._out = out
        self._as_json = as_json
        self._began = trio.current_time()
        self._place = 0

    def say(self, what: str) -> None:
        """One line of what happens."""
        counts = self.counts
        at = trio.current_time() - self._began
        if self._as_json:
            print(
                json.dumps({"at": round(at, 1), "event": what, **self.counts.figures()}),
                file=self._out,
                flush=True,
            )
        else:
            stays, moves = (len({topic for topic, _ in got}) for got in (counts.stays, counts.moves))
            got = f"{stays} and {moves} of {counts.committed + counts.acknowledged} came"
            print(f"{at:6.1f} s  {what}; {got}", file=self._out, flush=True)

    # --- who does what -------------------------------------------------------------------------------------

    async def write(self, connection: TrioConnection, events: int, rate: float) -> None:
        """Commit rows, and publish a message for every tenth."""
        client: Connection | None = None
        while self.counts.committed < events:
            await connection.execute(
                "INSERT INTO orders VALUES (%s, %s)", [self.counts.committed + 1, "demo"]
            )
            self.counts.committed += 1
            if self.counts.committed % 10 == 0:
                client = await self._publish(client)
            await trio.sleep(1 / rate)

    async def _publish(self, client: Connection | None) -> Connection:
        """One message at QoS 1, on any node, until one has acknowledged it."""
        number = self.counts.acknowledged + 1
        place = number
        attempt = 0
        while True:
            try:
                with trio.fail_after(ACKNOWLEDGED_S):
                    if client is None:
                        port = self._servers.ports[place % len(self._servers.ports)]
                        client = await Connection.open(port, b"writer", False)
                    attempt += 1
                    self.counts.anew += attempt > 1
                    await client.send(
                        Publish(
                            b"chat/%d" % number, b"hello %d" % attempt, 1, False, False, number % 60_000 + 1
                        )
                    )
                    while not isinstance(await client.receive(), Puback):
                        pass
                self.counts.acknowledged += 1
                return client
            except GONE:
                if client is not None:
                    await client.close()
                client = None
                place += 1
                await trio.sleep(0.2)

    async def stay(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Count on the last node, which nobody kills; where it closes the client all the same, that comes back."""
        has_started = False
        while True:
            client = await self._connected(self._servers.ports[-1], b"stays")
            try:
                if not has_started:
                    await client.send(Subscribe(1, FILTERS))
                    await client.receive()
                    has_started = True
                    task_status.started()
                await self._count(client, self.counts.stays)
            except GONE:
                await client.close()
                self.counts.returned += has_started

    async def move(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Count on one node after the other."""
        has_started = False
        while True:
            ports = self._servers.ports
            with suppress(*GONE):
                with trio.fail_after(20):
                    client = await Connection.open(ports[self._place % len(ports)], b"moves", False)
                    self.counts.moved += 1
                    await client.send(Subscribe(1, FILTERS))
                if not has_started:
                    await client.receive()
                    has_started = True
                    task_status.started()
                with trio.move_on_after(3.0):
                    await self._count(client, self.counts.moves)
                self._place += 1  # the next connection takes over from this one
                continue
            self._place += 1
            await trio.sleep(0.2)

    async def _count(self, client: Connection, counter: Counter[Key]) -> None:
        while True:
            packet = await client.receive()
            if isinstance(packet, Publish):
                counter[packet.topic, packet.payload] += 1
                await client.send(Puback(packet.packet_id))

    async def _connected(self, port: int, client_id: bytes) -> Connection:
        """A client with a persistent session.  Raises: ClientError, if it is not let in for long."""
        with trio.move_on_after(START_S):
            while True:
                try:
                    return await Connection.open(port, client_id, False)
                except GONE:
                    await trio.sleep(0.2)
        raise ClientError(
            f"no client is let in on port {port} within {START_S:g} s\n{self._servers.last_words()}"
        )

    async def act(self, events: int) -> None:
        """What happens, and when: after so much of what is to come."""
        servers = self._servers
        acts: list[tuple[float, str, Callable[[], None]]] = [
            (0.25, "node n1 is killed", lambda: servers.kill("n1")),
            (0.45, "node n1 is started again", lambda: servers.start("n1")),
            (0.55, "NATS server s1 is killed", lambda: servers.kill("s1")),
            (0.75, "NATS server s1 is started again", lambda: servers.start("s1")),
        ]
        for share, what, do in acts:
            while self.counts.committed < share * events:  # noqa: ASYNC110 - plain data, has no event
                await trio.sleep(0.05)
            do()
            self.say(what)

    async def all_came(self) -> None:
        """Wait until both have everything, or `LAST_S` have passed."""
        with trio.move_on_after(LAST_S):
            while self._is_missing():  # noqa: ASYNC110 - plain data, has no event
                await trio.sleep(0.2)
            await trio.sleep(1.0)  # for what comes twice

    def _is_missing(self) -> bool:
        figures = self.counts.figures()
        return bool(figures["stays_missing"] or figures["moves_missing"])

    def _why_it_returned(self) -> str:
        """A line, if its node closed it."""
        times = self.counts.returned
        return f"  It came back to its node {times}x, which had no quorum and closed it.\n" if times else ""

    def conclude(self) -> int:
        """The last line, and the exit status."""
        figures = self.counts.figures()
        is_twice = figures["stays_twice"] and not figures["stays_returned"]  # QoS 1 to who came back
        is_exact = not (figures["stays_missing"] or is_twice or figures["moves_missing"])
        if self._as_json:
            print(json.dumps({**figures, "ok": is_exact}), file=self._out, flush=True)
        else:
            self.say("the end")
            print(
                f"{figures['rows']} rows and {figures['messages']} messages,"
                f" {figures['published_anew']} of them published anew without an acknowledgement.\n"
                f"The client that stayed: {figures['stays_missing']} missing, {figures['stays_twice']} twice.\n"
                f"{self._why_it_returned()}"
                f"The client that moved {figures['moved']} times: {figures['moves_missing']} missing,"
                f" {figures['moves_twice']} sent again.\n{'Exact.' if is_exact else 'NOT EXACT.'}",
                file=self._out,
                flush=True,
            )
        return 0 if is_exact else 1


async def demonstrate(nodes: int, events: int | None, rate: float, as_json: bool, out: TextIO) -> int:
    """Run it; the exit status.

    Raises:
        ServerError, PostgresError, ClientError: alone or in an ExceptionGroup.
    """
    events = events or EVENTS
    async with (
        running_postgres() as postgres,
        await TrioConnection.connect(postgres.dsn, autocommit=True) as connection,
    ):
        await connection.execute("CREATE TABLE orders (id int PRIMARY KEY, text text)")
        with running_servers(nodes, postgres.dsn) as servers:
            await gateway.install_feeds(connection, toml.load(servers.configuration("n1"), {}))
            for number in range(1, nodes + 1):
                servers.start(f"n{number}")
            cluster = Cluster(servers, out, as_json)
            if not as_json:
                print(f"Starting Postgres, three NATS servers and {nodes} nodes ...", file=out, flush=True)
                for number, (port, admin) in enumerate(
                    zip(servers.ports, servers.admin_ports, strict=True), 1
                ):
                    print(
                        f"  n{number}: mqtt://{HOST}:{port}, page http://{HOST}:{admin}", file=out, flush=True
                    )
            async with trio.open_nursery() as nursery:
                await nursery.start(cluster.stay)
                await nursery.start(cluster.move)
                cluster.say("all nodes are up")
                async with trio.open_nursery() as acting:
                    acting.start_soon(cluster.act, events)
                    await cluster.write(connection, events, rate)
                await cluster.all_came()
                nursery.cancel_scope.cancel()
            return cluster.conclude()
