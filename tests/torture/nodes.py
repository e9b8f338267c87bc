"""Torture a cluster: three nodes, three NATS servers, one Postgres.  Or

    PYTHONPATH=.:tests python tests/torture/nodes.py --seconds 60 --seed 7

A writer commits numbered rows, publishers send numbered messages at QoS 1 to any node that takes them, observers read
every node; clients move, share, and die with wills.  Meanwhile nodes and NATS servers are killed and made to stand
still, and links between them are cut, slow, or hanging, one at a time; or, with `--upgrade-from`, the nodes run another
checkout of Rowcast and are replaced by this one, one after the other, in order.  In the end the log itself is read, and
judged with what everybody has seen:

- every committed row is in the log once, in commit order;
- every acknowledged message is in the log, no message more often than it was tried, a publisher's in their order;
- what one connection of an observer got is a piece of the log, without a hole, a repetition or another order;
- all nodes have the same retained messages, those of the log;
- what a publisher of QoS 2 sends comes once, in its order, whatever it had in flight when its node died;
- a persistent session that moves gets every acknowledged message, first in order, and never has two owners;
- every acknowledged message of a shared subscription comes to a member;
- a client that has gone without a word has one will in the log.

The seed decides everything but timing.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg
import trio
from attrs import Factory, define
from support.nats import NatsCluster
from support.nats_client import Client as NatsClient
from support.ports import free_port
from support.postgres import Cluster
from torture.cables import CUT, HANGING, OPEN, SLOW, Cable
from torture.exact_publishers import TOPIC, Exact, ExactPublishers, judge_exact
from torture.movers import MOVERS, Moved, Movers, judge_moved
from torture.wire import GONE, Connection, connect

from broker.cluster.names import Names
from broker.config.toml import configuration as toml
from broker.feed.setup.install import install_steps
from protocol.mqtt.packets import Puback, Publish, Suback, Subscribe
from protocol.nats import jetstream, subjects, wire
from protocol.nats.ordered import ANSWER, LOST, NEXT, OrderedReader

HERE = Path(__file__).parents[2]
NAMES = Names("torture")
NODES = 3
PUBLISHERS = 3
ACK_S = 10.0
SETTLE_S = 90.0
KEPT = b"ret/"
OBSERVED = (b"rows/", b"msg/", KEPT)
LINKS = {"cut link": CUT, "slow link": SLOW, "hanging link": HANGING}

CONFIGURATION = """
[[listener]]
port = {port}
host = "127.0.0.1"
[security]
allow_anonymous = true
[cluster]
nats = [{nats}]
name = "torture"
node = "n{index}"
keep_bytes = "64MB"
[database]
dsn = "{dsn}"
kind = "wal"
[database.replication]
allow_unbounded_wal = true
[source.rows]
tables = ["public.items"]
[[mqtt.route]]
from = "rows"
topics = "rows/{{id}}"
"""

Seen = tuple[bytes, bytes]


@define
class History:
    """What everybody did and saw."""

    committed: int = 0
    tried: Counter[Seen] = Factory(Counter)
    acknowledged: set[Seen] = Factory(set)
    connections: list[list[Seen]] = Factory(list)
    retained: list[dict[bytes, bytes]] = Factory(list)
    log: list[Seen] = Factory(list)
    deeds: Counter[str] = Factory(Counter)
    moved: Moved = Factory(Moved)
    exact: Exact = Factory(Exact)


def judge(history: History) -> list[str]:
    """Every promise that was broken, in words."""
    faults = judge_moved(history.moved, history.log, history.acknowledged)
    faults += judge_exact(history.exact, history.log)
    rows = [int(topic.partition(b"/")[2]) for topic, _ in history.log if topic.startswith(b"rows/")]
    if rows != list(range(1, history.committed + 1)):
        counts = Counter(rows)
        missing = [row for row in range(1, history.committed + 1) if row not in counts]
        twice = [row for row, count in counts.items() if count > 1]
        faults.append(f"rows: missing {missing[:10]}, twice {twice[:10]}, sorted: {rows == sorted(rows)}")
    messages = [one for one in history.log if not one[0].startswith((b"rows/", b"will/", TOPIC))]
    counted = Counter(messages)
    faults += [
        f"acknowledged and not in the log: {one}" for one in sorted(history.acknowledged - counted.keys())
    ]
    faults += [
        f"{one} is there {count} times, and was tried {history.tried[one]} times"
        for one, count in sorted(counted.items())
        if count > history.tried[one]
    ]
    firsts: dict[bytes, list[int]] = {}
    for topic, payload in dict.fromkeys(messages):
        firsts.setdefault(topic, []).append(int(payload))
    faults += [f"{topic!r}: out of order" for topic, numbers in firsts.items() if numbers != sorted(numbers)]
    places: dict[Seen, list[int]] = {}
    observed = [one for one in history.log if one[0].startswith(OBSERVED)]
    for index, one in enumerate(observed):
        places.setdefault(one, []).append(index)
    for number, seen in enumerate(history.connections):
        if seen and not any(observed[at : at + len(seen)] == seen for at in places.get(seen[0], [])):
            faults.append(
                f"connection {number}: {len(seen)} messages from {seen[0]} on are no piece of the log"
            )
    wanted = {topic: payload for topic, payload in messages if topic.startswith(KEPT)}
    for index, kept in enumerate(history.retained):
        if kept != wanted:
            faults.append(f"node {index} has retained {kept}, not {wanted}")
    return faults


class World:
    """Everything that runs."""

    def __init__(self, folder: Path, dsn: str, nats: NatsCluster, seed: int) -> None:
        self.random = random.Random(seed)
        self.history = History()
        self.nats = nats
        self.dsn = dsn
        self.is_over = False
        self.ports = [free_port() for _ in range(NODES)]
        self.configs: list[Path] = []
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * NODES
        self.folder = folder
        self.routes = [Cable(way, port) for way, port in zip(nats.ways, nats.routes, strict=True)]
        """By which the first server and the others reach each other."""
        self.cables = [[Cable(free_port(), server.port) for server in nats.servers] for _ in range(NODES)]
        self.movers = Movers(self.ports, seed, lambda: self.is_over)
        self.history.moved = self.movers.moved
        self.exact = ExactPublishers(self.ports, seed, lambda: self.is_over)
        self.history.exact = self.exact.exact
        for index, port in enumerate(self.ports):
            urls = ", ".join(f'"nats://127.0.0.1:{cable.port}"' for cable in self.cables[index])
            path = folder / f"n{index}.toml"
            path.write_text(CONFIGURATION.format(port=port, nats=urls, index=index, dsn=dsn))
            self.configs.append(path)

    def start(self, index: int, checkout: Path | None = None) -> None:
        """Begin a node, of this checkout or of another."""
        with (self.folder / f"n{index}.log").open("ab") as log:
            self.processes[index] = subprocess.Popen(
                [sys.executable, "-m", "broker", "-c", str(self.configs[index])],
                stdout=log,
                stderr=log,
                cwd=checkout or HERE,
            )

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def kill(self, index: int) -> None:
        process = self.processes[index]
        if process is not None:
            process.kill()
            process.wait()

    # --- what goes on --------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Commit rows, some at a time; Postgres is left alone."""

        def commit(first: int, count: int) -> None:
            with psycopg.connect(self.dsn) as connection:
                connection.execute(
                    "INSERT INTO items SELECT generate_series(%s::int, %s::int)", [first, first + count - 1]
                )

        while not self.is_over:
            count = self.random.choice([1, 1, 5, 50, 500])
            await trio.to_thread.run_sync(commit, self.history.committed + 1, count)
            self.history.committed += count
            await trio.sleep(self.random.uniform(0.05, 0.4))

    async def publish(self, name: int, own: bytes = b"") -> None:
        """One message after the other, each until some node has acknowledged it; every fifth is retained.

        Args:
            own: the topic, for one that retains nothing.
        """
        client: Connection | None = None
        packet_id = 0
        number = 0
        while not self.is_over:
            topic = own or (KEPT + b"%d" % name if number % 5 == 0 else b"msg/%d" % name)
            payload = b"%d" % number
            packet_id = packet_id % 60_000 + 1
            try:
                with trio.fail_after(ACK_S):
                    if client is None:
                        port = self.random.choice(self.ports)
                        client = await connect(port, b"publisher%d" % name)
                    self.history.tried[topic, payload] += 1
                    await client.send(Publish(topic, payload, 1, topic.startswith(KEPT), False, packet_id))
                    assert await client.receive() == Puback(packet_id)
            except GONE:
                if client is not None:
                    await client.close()
                client = None
                await trio.sleep(0.2)
                continue
            self.history.acknowledged.add((topic, payload))
            number += 1
            await trio.sleep(self.random.uniform(0, 0.05))

    async def observe(self, index: int) -> None:
        """Read one node, again and again."""
        while True:
            seen: list[Seen] = []
            client: Connection | None = None
            with suppress(*GONE):
                client = await connect(self.ports[index], b"observer%d" % index)
                await client.send(Subscribe(1, ((b"rows/#", 1), (b"msg/#", 1), (KEPT + b"#", 1))))
                while True:
                    packet = await client.receive()
                    if isinstance(packet, Publish):
                        if not packet.retain:
                            if not seen:
                                self.history.connections.append(seen)
                            seen.append((packet.topic, packet.payload))
                        await client.send(Puback(packet.packet_id))
            if client is not None:
                await client.close()
            await trio.sleep(0.1)

    async def break_things(self, seconds: float) -> None:
        """One thing at a time, so that there always is a quorum, or will be."""
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            index = self.random.randrange(NODES)
            deed = self.random.choice(
                ["kill node", "pause node", "kill nats", "pause nats", "cut off nats", *LINKS]
            )
            length_s = self.random.choice([self.random.uniform(0.5, 6.0), self.random.uniform(8.0, 12.0)])
            self.history.deeds[deed] += 1
            server, process = self.nats.servers[index], self.processes[index]
            assert process is not None
            if deed == "kill node":
                self.kill(index)
                await trio.sleep(min(length_s, 2.0))
                self.start(index)
            elif deed in LINKS or deed == "cut off nats":
                # To one server, or to all of them; or all between one server and the others.
                cables = self.random.choice([self.cables[index], [self.random.choice(self.cables[index])]])
                how = LINKS.get(deed) or self.random.choice([CUT, HANGING])
                cables = cables if deed in LINKS else self.routes
                for cable in cables:
                    await cable.become(how)
                await trio.sleep(length_s)
                for cable in cables:
                    await cable.become(OPEN)
            elif deed == "kill nats":
                server.kill()
                await trio.sleep(length_s)
                server.start()
            else:
                victim = process if deed == "pause node" else server.process
                assert victim is not None
                victim.send_signal(signal.SIGSTOP)
                await trio.sleep(length_s)
                victim.send_signal(signal.SIGCONT)
            await trio.sleep(self.random.uniform(1.0, 3.0))

    async def upgrade(self, seconds: float) -> None:
        """Replace each node in order, and let `seconds` pass in all."""
        pause_s = seconds / (NODES + 1)
        await trio.sleep(pause_s)
        for index in range(NODES):
            process = self.processes[index]
            assert process is not None
            process.terminate()
            self.history.deeds[
                "stopped in order" if await trio.to_thread.run_sync(process.wait) == 0 else "failed"
            ] += 1
            self.start(index)
            await trio.sleep(pause_s)

    # --- the end -------------------------------------------------------------------------------------------

    def last_row(self) -> bytes:
        """Its topic."""
        with NatsClient(self.nats.servers[0].port, timeout_s=20) as client:
            request = jetstream.last_of("torture_MSGS", b"torture.MSGS.f-main.>")
            found = jetstream.stored(client.request(*request))
        return subjects.topic_of(found.subject.split(b".", 4)[4])

    def read_log(self) -> list[Seen]:
        """Everything, in the log's order."""
        with NatsClient(self.nats.servers[0].port, timeout_s=120) as client:
            state = client.ask(jetstream.stream_info("torture_MSGS"))["state"]
            found: list[Seen] = []
            reader = OrderedReader(1)
            inbox = client.subscriptions.new_inbox()

            def take(message: wire.Message) -> None:
                verdict = reader.take(message)
                if verdict == NEXT and not NAMES.is_of_nodes(message.subject):
                    found.append((subjects.topic_of(message.subject.split(b".", 4)[4]), message.payload))
                elif verdict == ANSWER:
                    client.publish(reader.reply, b"")
                assert verdict != LOST

            sid = client.subscriptions.add(inbox, take)
            client.sock.sendall(wire.subscribe(inbox, sid))
            reader.begun(sid)
            config = jetstream.ordered_config(inbox, 1, 1.0)
            client.ask(jetstream.consumer_create("torture_MSGS", "judge", config))
            client.until(lambda: reader.last >= state["last_seq"])
            return found

    async def settled(self) -> None:
        """Until every node has handed on the last row, or `SETTLE_S` have passed; then the log counts."""
        last = b"rows/%d" % self.history.committed
        with trio.move_on_after(SETTLE_S):
            for port in self.ports:
                while not await self._has_read(port, last):  # noqa: ASYNC110 - nothing tells it
                    await trio.sleep(0.5)

    async def _has_read(self, port: int, last: bytes) -> bool:
        index = self.ports.index(port)
        with suppress(*GONE, jetstream.ApiError), trio.fail_after(20):
            client = await connect(port, b"judge")
            kept: dict[bytes, bytes] = {}
            await client.send(Subscribe(1, ((KEPT + b"#", 0),)))
            while not isinstance(await client.receive(), Suback):
                pass
            with trio.move_on_after(5.0):  # longer than a node waits for the log
                while True:
                    packet = await client.receive()
                    assert isinstance(packet, Publish)
                    kept[packet.topic] = packet.payload
            await client.close()
            has_last = await trio.to_thread.run_sync(self.last_row) == last
            if has_last:
                while len(self.history.retained) <= index:
                    self.history.retained.append({})
                self.history.retained[index] = kept
            return has_last and bool(kept)
        return False


async def torture(
    cluster: Cluster, seconds: float, seed: int, upgrade_from: Path | None = None
) -> tuple[History, list[str], str]:
    """What happened, what was broken, and what the nodes wrote."""
    dsn = cluster.dsn(cluster.create_database())
    ways = (free_port(), free_port(), free_port())
    with tempfile.TemporaryDirectory(prefix="rowcast-nodes-") as name, NatsCluster(3, ways=ways) as nats:
        world = World(Path(name), dsn, nats, seed)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE items (id int PRIMARY KEY)")
            for step in install_steps(toml.load(world.configs[0], {}).feeds[0]):
                connection.execute(step.statement)
        try:
            async with trio.open_nursery() as observers:
                for cable in [cable for cables in (world.routes, *world.cables) for cable in cables]:
                    await observers.start(cable.run)
                for index in range(NODES):
                    world.start(index, upgrade_from)
                for index in range(NODES):
                    observers.start_soon(world.observe, index)
                async with trio.open_nursery() as busy:
                    busy.start_soon(world.write)
                    for publisher in range(PUBLISHERS):
                        busy.start_soon(world.publish, publisher)
                    await trio.sleep(12)  # the streams are made, the feed has begun
                    busy.start_soon(world.movers.run)
                    busy.start_soon(world.exact.run)
                    with trio.fail_after(180):
                        await world.movers.ready.wait()
                    for mover in range(MOVERS):
                        busy.start_soon(world.publish, 100 + mover, b"mv/%d" % mover)
                    busy.start_soon(world.publish, 200, b"sh/x")
                    await (world.upgrade if upgrade_from else world.break_things)(seconds)
                    world.is_over = True
                await trio.sleep(10)  # the last wills
                await world.settled()
                await trio.sleep(2)
                world.history.log = await trio.to_thread.run_sync(world.read_log)
                observers.cancel_scope.cancel()
            written = world.logs()
        finally:
            for index in range(NODES):
                world.kill(index)
    return world.history, judge(world.history), written


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of trouble (60)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument(
        "--upgrade-from", type=Path, metavar="FOLDER", help="a checkout of an earlier Rowcast"
    )
    args = parser.parse_args()
    cluster = Cluster()
    try:
        history, faults, written = trio.run(torture, cluster, args.seconds, args.seed, args.upgrade_from)
    finally:
        cluster.close()
    deeds = ", ".join(f"{deed} {count}" for deed, count in sorted(history.deeds.items()))
    print(
        f"nodes seed {args.seed}: {history.committed} rows, {len(history.acknowledged)} messages acknowledged,"
        f" {len(history.log)} in the log, {len(history.connections)} connections of observers,"
        f" {history.moved.connections} of moving clients ({history.moved.takeovers} takeovers),"
        f" {sum(map(len, history.exact.sent.values()))} at QoS 2 ({history.exact.repeated} repeated),"
        f" {len(history.moved.mortals)} clients with wills, {len(history.moved.shared)} shared; {deeds}"
    )
    for fault in faults[:20]:
        print("FAULT", fault)
    if faults:
        with tempfile.NamedTemporaryFile("w", prefix="rowcast-nodes-", suffix=".log", delete=False) as file:
            file.write(written)
        print(f"What the nodes wrote: {file.name}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
