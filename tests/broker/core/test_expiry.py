"""Sessions that nobody came back for are forgotten in time, and no sooner."""

from __future__ import annotations

import random
import time

import pytest
from support.peer import connected

from broker.core.engine import Engine, Policy
from broker.core.session import DeliveryRules
from protocol.mqtt.outbound import Window


def engine_with(**policy: float) -> Engine:
    engine = Engine(Policy(**policy))  # type: ignore[arg-type]
    engine.now = 1000.0
    return engine


def after(engine: Engine, seconds: float) -> Engine:
    engine.now += seconds
    engine.expire()
    return engine


class TestSessions:
    def test_a_durable_session_is_kept_for_as_long_as_configured(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(20)
        engine = engine_with(persistent_client_expiration_s=60.0)
        connected(engine, b"away", clean=False).drop()
        assert list(after(engine, 59.9).sessions) == [b"away"]
        assert list(after(engine, 0.1).sessions) == []
        assert "Expiring client away due to timeout." in caplog.text

    def test_whoever_is_here_or_came_back_meanwhile_stays(self) -> None:
        engine = engine_with(persistent_client_expiration_s=60.0)
        connected(engine, b"here", clean=False)
        connected(engine, b"back", clean=False).drop()
        after(engine, 50.0)
        connected(engine, b"back", clean=False, present=True).drop()
        assert set(after(engine, 50.0).sessions) == {b"here", b"back"}
        assert set(after(engine, 10.0).sessions) == {b"here"}

    def test_without_a_limit_for_ever(self) -> None:
        engine = engine_with()
        connected(engine, b"away", clean=False).drop()
        assert list(after(engine, 1e9).sessions) == [b"away"]

    def test_a_shorter_limit_holds_at_once(self) -> None:
        engine = engine_with(persistent_client_expiration_s=1000.0)
        connected(engine, b"away", clean=False).drop()
        after(engine, 100.0)
        engine.adopt(Policy(persistent_client_expiration_s=50.0), Window(), DeliveryRules())
        assert list(after(engine, 0.0).sessions) == []


def test_at_random_times_exactly_what_is_too_old_is_gone() -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    engine = engine_with(persistent_client_expiration_s=40.0)
    left: dict[bytes, float] = {}
    for _ in range(500):
        name = b"%d" % chance.randrange(20)
        connected(engine, name, clean=False, present=name in engine.sessions).drop()
        left[name] = engine.now
        after(engine, chance.choice((0.0, 0.5, 3.0, 15.0)))
        assert set(engine.sessions) == {who for who, at in left.items() if engine.now - at < 40.0}
