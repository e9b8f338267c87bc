"""Where a feed's rows go: with what their route adds, with their place, and one that fails costs nobody else."""

from __future__ import annotations

import time

import pytest
from support.peer import connected

from broker.core.added import Added
from broker.core.engine import Engine
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.outlet import EngineOutlet, put_on
from protocol.mqtt.packets import Publish, Subscribe


class Heard(Receiver):
    """Notes messages, and where the row of each is; `bug` as payload fails."""

    def __init__(self, engine: Engine, positions: Positions) -> None:
        super().__init__(plain=False)
        self.positions = positions
        self.came: list[tuple[bytes, int, bool, bytes]] = []
        engine.subscribe(self, b"#", 2)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if publication.payload == b"bug":
            raise ArithmeticError
        self.came.append((publication.payload, publication.qos, publication.retain, self.positions.place))


@pytest.fixture
def heard() -> tuple[Engine, Positions, Heard]:
    engine, positions = Engine(), Positions("e")
    return engine, positions, Heard(engine, positions)


def test_each_row_is_published_with_its_own_place_and_none_with_anothers(
    heard: tuple[Engine, Positions, Heard],
) -> None:
    engine, positions, receiver = heard
    outlet = EngineOutlet(engine, None, positions)
    outlet.place = b"f\0" + b"1"
    outlet.publish(b"t", b"1", 1, True)
    outlet.place = b""
    outlet.publish(b"t", b"2", 0, False)
    assert receiver.came == [(b"1", 1, True, b"f\x001"), (b"2", 0, False, b"")]
    assert positions.place == b""


def test_a_place_without_positions_is_of_no_use(heard: tuple[Engine, Positions, Heard]) -> None:
    engine, _, receiver = heard
    outlet = EngineOutlet(engine, None)
    outlet.place = b"f\x001"
    outlet.publish(b"t", b"1", 0, False)
    assert receiver.came == [(b"1", 0, False, b"")]


@pytest.mark.parametrize("reraise", [False, True])
def test_one_that_fails_is_counted_and_leaves_no_place_behind(
    heard: tuple[Engine, Positions, Heard], reraise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", reraise)
    engine, positions, receiver = heard
    outlet = EngineOutlet(engine, None, positions)
    outlet.place = b"f\x001"
    if reraise:
        with pytest.raises(ArithmeticError):
            outlet.publish(b"t", b"bug", 0, False)
    else:
        outlet.publish(b"t", b"bug", 0, False)
    assert positions.place == b""
    assert engine.counters.link_bugs == 1
    outlet.publish(b"t", b"next", 0, False)
    assert receiver.came == [(b"next", 0, False, b"f\x001")]


@pytest.mark.parametrize(
    ("added", "expires_at"),
    [
        (Added(), 0.0),
        (Added(properties=b"\x01\x01"), 0.0),
        (Added(expiry_s=0), 500.0),
        (Added(expiry_s=60), 560.0),
        (Added(expiry_s=60, expires_unix_s=1.0), 560.0),
        (Added(expires_unix_s=1_800_000_005.0), 505.0),
        (Added(expires_unix_s=1_799_999_990.0), 490.0),
    ],
)
def test_an_expiry_counts_from_now_by_the_clock_of_the_engine(
    added: Added, expires_at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    engine = Engine()
    engine.now = 100.0
    engine.turn.clock = lambda: 500.0  # the engine's own is of the last turn
    publication = Publication(b"t", b"x")
    put_on(publication, added, engine)
    assert publication.expires_at == expires_at
    assert publication.properties == added.properties


async def test_without_anything_that_is_saved_it_is_durable_at_once() -> None:
    await EngineOutlet(Engine(), None).durable()


async def test_it_is_durable_when_it_is_saved() -> None:
    settled: list[str] = []

    class Keeper:
        async def settle(self) -> None:
            settled.append("saved")

    await EngineOutlet(Engine(), Keeper()).durable()  # type: ignore[arg-type]
    assert settled == ["saved"]


def test_a_flush_ends_the_turn() -> None:
    engine = Engine()
    ended: list[str] = []
    engine.turn.on_batch_end(lambda: ended.append("batch"))
    EngineOutlet(engine, None).flush()
    assert ended == ["batch"]


def test_a_flush_within_a_turn_sends_what_there_is_and_the_turn_goes_on() -> None:
    engine = Engine()
    ended: list[str] = []
    engine.turn.on_batch_end(lambda: ended.append("batch"))
    peer = connected(engine)
    peer.send(Subscribe(1, ((b"t", 0),)))
    peer.read()
    ended.clear()
    outlet = EngineOutlet(engine, None)
    with engine.turn:
        outlet.publish(b"t", b"1", 0, False)
        outlet.flush()
        assert peer.read() == [Publish(b"t", b"1")]
        assert ended == []
    assert ended == ["batch"]
