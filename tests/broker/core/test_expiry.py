"""What nobody came back for, or nobody published again, is forgotten in time, and no sooner."""

from __future__ import annotations

import random
import time

import pytest
from support.peer import connected

from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.core.session import DeliveryRules
from protocol.mqtt.outbound import Window


def engine_with(**policy: float) -> Engine:
    engine = Engine(Policy(**policy))  # type: ignore[arg-type]
    engine.now = 1000.0
    return engine


def retain(engine: Engine, topic: bytes) -> None:
    engine.publish(Publication(topic, b"x", 1, True))


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


class TestRetainedMessages:
    def test_one_is_kept_for_as_long_as_configured_since_it_was_published_last(self) -> None:
        engine = engine_with(retain_expiry_interval_s=60.0)
        retain(engine, b"old")
        retain(engine, b"renewed")
        after(engine, 50.0)
        retain(engine, b"renewed")
        assert [one.topic for one in after(engine, 10.0).retained.all()] == [b"renewed"]
        assert [one.topic for one in after(engine, 50.0).retained.all()] == []

    def test_an_expired_one_is_not_delivered_though_nobody_looked_yet(self) -> None:
        engine = engine_with(retain_expiry_interval_s=60.0)
        retain(engine, b"t")
        for topic_filter in (b"t", b"#"):
            assert len(engine.retained.matching(topic_filter, engine.now + 59.0)) == 1
            assert engine.retained.matching(topic_filter, engine.now + 60.0) == []

    def test_what_the_broker_says_about_itself_stays(self) -> None:
        engine = engine_with(retain_expiry_interval_s=60.0)
        retain(engine, b"$SYS/broker/version")
        assert len(after(engine, 1e6).retained) == 1

    def test_a_shorter_limit_holds_at_once(self) -> None:
        engine = engine_with(retain_expiry_interval_s=1000.0)
        retain(engine, b"t")
        after(engine, 100.0)
        engine.adopt(Policy(retain_expiry_interval_s=50.0), Window(), DeliveryRules())
        assert len(after(engine, 0.0).retained) == 0


def test_at_random_times_exactly_what_is_too_old_is_gone() -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    engine = engine_with(retain_expiry_interval_s=30.0, persistent_client_expiration_s=40.0)
    published: dict[bytes, float] = {}
    left: dict[bytes, float] = {}
    for _ in range(500):
        name = b"%d" % chance.randrange(20)
        if chance.random() < 0.5:
            retain(engine, name)
            published[name] = engine.now
        else:
            connected(engine, name, clean=False, present=name in engine.sessions).drop()
            left[name] = engine.now
        after(engine, chance.choice((0.0, 0.5, 3.0, 15.0)))
        assert {one.topic for one in engine.retained.all()} == {
            topic for topic, at in published.items() if engine.now - at < 30.0
        }
        assert set(engine.sessions) == {who for who, at in left.items() if engine.now - at < 40.0}
