"""Cut the power under `acknowledge = "saved"`: `make torture`, or

    PYTHONPATH=.:tests python tests/torture/power.py --runs 1000 --seed 7

Clients publish, subscribe, leave, come back and take over, at QoS 1 and 2, with retained messages and wills; the broker
saves meanwhile to a disk that records what is written and when it is synced.  At random moments, in the middle of a
save, too, the power is cut: a broker is started on what the disk may have kept, the clients go on with what they knew
at that moment, and when all is done, each of them must have got what it was promised: nothing lost, nothing of QoS 2
twice.  Each cut is a run.  The seed decides everything but timing.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import define
from support.peer import Peer
from support.polling import until
from torture.disk import Disk, environment, fast_folder, leave
from torture.exact_clients import Client, Connection, choose_topic
from torture.promises import broken_promises

from broker.config.model import Persistence
from broker.core.engine import Engine
from broker.storage.errors import StorageError
from broker.storage.keeper import Keeper
from protocol.mqtt.packets import Connect, Publish, Subscribe

CLIENTS: Final = 4
STEPS: Final = 150
CUTS: Final = 10
"""Of each life of a broker."""
FINISH_S: Final = 30.0
LIFE_S: Final = 600.0
SHOWN_MAX: Final = 50


@define
class Cut:
    """A moment at which the power went."""

    record: bytes
    names: list[str]
    clients: list[Client]
    now: int


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[Engine]:
    """A broker without sockets on the file in this folder; what is not saved at the end is lost."""
    engine = Engine()
    settings = Persistence(True, folder, acknowledge="saved", autosave_interval_s=0)
    keeper = await Keeper.open(engine, settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        try:
            yield engine
        finally:
            nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await keeper._journal.close()


class World:
    """Clients of one engine, and what time it is for them."""

    def __init__(self, engine: Engine, clients: list[Client], now: int) -> None:
        self.engine = engine
        self.clients = clients
        self.now = now
        self.connections: dict[bytes, Connection] = {}

    def tick(self) -> int:
        self.now += 1
        return self.now

    def connect(self, client: Client) -> None:
        """Also while it is connected: the new connection takes over, and what the old one was sent last is lost."""
        self.connections[client.name] = Connection(client, self.engine, self.tick())

    def step(self, chance: random.Random) -> None:
        with self.engine.turn:
            self._step(chance)

    def _step(self, chance: random.Random) -> None:
        client = chance.choice(self.clients)
        connection = self.connections.get(client.name)
        if connection is None or connection.peer.closed:
            if chance.random() < 0.5:
                self.connect(client)
            return
        deed = chance.random()
        if deed < 0.4:
            self._publish(connection, chance)
        elif deed < 0.8:
            connection.read(self.tick())
        elif deed < 0.87:
            topic_filter = choose_topic(chance)
            # Sent again after a cut they would change places.
            if all(one.topic_filter != topic_filter for one in client.leaving.values()):
                connection.subscribe(topic_filter, chance.choice((1, 2, 2)), self.tick())
        elif deed < 0.9:
            held = [one for one in client.interests if one.granted_at <= self.now < one.left_at]
            if held:
                self._unsubscribe_all(connection, chance.choice(held).topic_filter)
        elif deed < 0.95:
            connection.drop()
        else:
            self.connect(client)

    def _unsubscribe_all(self, connection: Connection, topic_filter: bytes) -> None:
        """The broker has one subscription for each filter, however often it was asked for."""
        client = connection.client
        if any(one.topic_filter == topic_filter for one in client.asked.values()):
            return
        now = self.tick()
        held = [one for one in client.interests if one.topic_filter == topic_filter and one.left_at > now]
        for one in held[:-1]:
            one.left_at = one.gone_at = now
        connection.unsubscribe(held[-1], now)

    def _publish(self, connection: Connection, chance: random.Random) -> None:
        client = connection.client
        payload = b"%s %d" % (client.name, len(client.sent))
        if chance.random() < 0.2:
            connection.publish(b"retained/" + client.name, payload, 1, True, self.tick())
        else:
            connection.publish(choose_topic(chance), payload, chance.choice((1, 2, 2)), False, self.tick())

    async def finish(self) -> list[str]:
        """Everybody connects, and goes on until nothing is owed to anybody: who still waits then."""
        for client in self.clients:
            self.connect(client)

        def is_done() -> bool:
            for connection in self.connections.values():
                connection.read(self.tick())
            return all(
                not (client.in_flight or client.asked or client.leaving)
                and not self.engine.sessions[client.name].outbound.inflight_count()
                and not self.engine.sessions[client.name].outbound.queued_count()
                for client in self.clients
            )

        try:
            await until(is_done, FINISH_S)
        except trio.TooSlowError:
            return ["the clients do not come to an end"]
        return [
            f"{client.name!r} has {payload!r}, and no PUBREL comes"
            for client in self.clients
            for payload in client.received.values()
        ]

    def retained(self) -> dict[bytes, bytes]:
        """What somebody new gets."""
        peer = Peer(self.engine)
        peer.send(Connect(b"new", True, 0), Subscribe(1, ((b"retained/#", 0),)))
        self.engine.flush()
        return {one.topic: one.payload for one in peer.read() if isinstance(one, Publish)}


async def live(chance: random.Random, folder: Path, disk: Disk) -> list[Cut]:
    """A broker's life, and the cuts that it might have ended by."""
    clients = [Client(b"c%d" % number, chance.random() < 0.5) for number in range(CLIENTS)]
    moments = sorted(chance.sample(range(STEPS), CUTS))
    cuts: list[Cut] = []
    async with keeping(folder) as engine:
        world = World(engine, clients, 0)
        for step in range(STEPS):
            disk.set_sync_s(chance.choice((0.0, 0.0, 0.0005, 0.002)))
            seen = disk.position()
            world.step(chance)
            for _ in range(chance.choice((0, 0, 1, 1, 2))):
                await trio.lowlevel.checkpoint()
            if chance.random() < 0.1:
                await trio.sleep(chance.random() * 0.005)
            if step in moments:
                # The clients have done nothing since `seen`, so the cut may have come anywhere from there to now.
                until_ = chance.randint(seen, disk.position())
                names = disk.names()
                cuts.append(Cut(disk.record(until_), names, copy.deepcopy(clients), world.now))
        disk.set_sync_s(0.0)
    return cuts


async def survive(cut: Cut, folder: Path, chance: random.Random) -> list[str]:
    """Start a broker on what the cut left, and let the clients go on: what was broken."""
    try:
        async with keeping(folder) as engine:
            world = World(engine, cut.clients, cut.now)
            for client in world.clients:
                if chance.random() < 0.7:
                    world.connect(client)
            for _ in range(chance.choice((0, 20))):
                world.step(chance)
            waiting = await world.finish()
            return waiting + broken_promises(cut.clients, world.retained())
    except StorageError as error:
        return [f"the file does not open: {error}"]


async def one_life(seed: int, cuts_max: int, folder: Path, *, syncs: bool) -> list[str]:
    """What was broken after the cuts of one broker's life; in a process that was started with `environment`.

    Args:
        folder: with `disk` in it, which is recorded.
        syncs: False is a disk that only says that it syncs.
    """
    chance = random.Random(seed)
    cuts = await live(chance, folder / "disk", Disk())
    nothing = folder / "nothing"
    nothing.mkdir()
    broken: list[str] = []
    for number, cut in enumerate(cuts[:cuts_max]):
        left = folder / f"left{number}"
        leave(nothing, cut.record, cut.names, chance, left, syncs=syncs)
        problems = await survive(cut, left, chance)
        broken += [f"seed {seed}, cut {number}: {problem}" for problem in problems]
        shutil.rmtree(left)
    return broken


def live_once(seed: int, cuts_max: int, *, syncs: bool) -> list[str]:
    """`one_life` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=fast_folder(), prefix="rowcast-power-") as name:
        folder = Path(name)
        (folder / "disk").mkdir()
        command = [sys.executable, __file__, "--life", str(seed), "--runs", str(cuts_max), "--in", name]
        ended = subprocess.run(
            [*command, *([] if syncs else ["--lying-disk"])],
            env=environment(folder / "disk", folder) | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=LIFE_S,
        )
        if ended.returncode != 0:
            return [f"seed {seed}: the process ended with {ended.returncode}"]
        return [line for line in ended.stdout.splitlines() if line]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="cuts; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--lying-disk", action="store_true", help="syncs do nothing: shows that losses are found"
    )
    parser.add_argument("--life", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--in", type=Path, dest="folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.getLogger("broker").setLevel(logging.ERROR)
    if args.life is not None:
        broken = trio.run(partial(one_life, args.life, args.runs, args.folder, syncs=not args.lying_disk))
        print("\n".join(broken))
        return 0
    broken = []
    began = time.monotonic()
    for start in range(0, args.runs, CUTS):
        cuts = min(CUTS, args.runs - start)
        broken += live_once(args.seed + start // CUTS, cuts, syncs=not args.lying_disk)
    broken = [problem for problem in broken if problem]
    for problem in broken[:SHOWN_MAX]:
        print(problem)
    took = time.monotonic() - began
    print(f"{args.runs} power cuts from seed {args.seed} in {took:.0f} s: {len(broken)} promises broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
