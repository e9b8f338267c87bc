"""Access rules on the fast path: runs of QoS 0 packets do what they would do one by one."""

from __future__ import annotations

from random import Random

import pytest
from support.peer import Publish, connected, subscribed
from support.rule_files import parse_acl

from broker.core.engine import Engine
from protocol.mqtt.codec import encode

RULES = b"topic write open/#\ntopic deny open/secret/#\ntopic readwrite both\ntopic read readonly\n"
TOPICS = (
    b"open/a",
    b"open/b",
    b"open/secret/a",
    b"both",
    b"readonly",
    b"elsewhere",
    b"$SYS/x",
    b"open/quiet",
)


def played(seed: int, one_by_one: bool) -> tuple[list[bytes], dict[str, int]]:
    """What subscribers got of random packets in random pieces, and what was counted."""
    random = Random(seed)
    engine = Engine()
    subscribers = [
        subscribed(engine, (b"#", 0), client_id=b"all"),
        subscribed(engine, (b"open/+", 1), (b"both", 2), client_id=b"some"),
        subscribed(engine, (b"open/secret/#", 0), (b"elsewhere", 0), client_id=b"forbidden"),
    ]
    publisher = connected(engine, b"publisher")
    session = publisher.link.session
    assert session is not None
    session.access = parse_acl(RULES, "acl").access(None, b"publisher")
    publisher.link.choose_path(session)
    if one_by_one:
        publisher.link._fast = False
    data = b""
    for number in range(200):
        topic = random.choice(TOPICS[: random.choice((2, 4, 8))])
        retain = random.random() < 0.05
        data += encode(Publish(topic, b"%d" % number, 0, retain)) * random.choice((1, 1, 5))
    while data:
        cut = random.choice((1, 30, 500, 2000))
        publisher.write(data[:cut])
        data = data[cut:]
    counters = engine.counters
    return [one.read_bytes() for one in subscribers], {
        "dropped": counters.dropped_acl,
        "received": counters.publishes_received,
        "sent": counters.publishes_sent,
    }


@pytest.mark.parametrize("seed", range(25))
def test_runs_are_ruled_as_single_packets_are(seed: int) -> None:
    in_runs = played(seed, one_by_one=False)
    assert in_runs == played(seed, one_by_one=True)
    assert in_runs[1]["dropped"] > 0


def test_a_whole_run_that_is_forbidden_reaches_nobody_and_is_counted() -> None:
    engine = Engine()
    subscriber = subscribed(engine, (b"#", 0))
    publisher = connected(engine, b"publisher")
    session = publisher.link.session
    assert session is not None
    session.access = parse_acl(RULES, "acl").access(None, b"publisher")
    publisher.link.choose_path(session)
    publisher.write(encode(Publish(b"elsewhere", b"x")) * 50 + encode(Publish(b"both", b"y")))
    assert subscriber.read() == [Publish(b"both", b"y")]
    assert engine.counters.dropped_acl == 50


def test_what_is_refused_takes_no_place_in_the_match_cache() -> None:
    engine = Engine()
    publisher = connected(engine, b"publisher")
    session = publisher.link.session
    assert session is not None
    session.access = parse_acl(RULES, "acl").access(None, b"publisher")
    publisher.link.choose_path(session)
    publisher.write(b"".join(encode(Publish(topic, b"1", 0, False)) for topic in (b"open/a", b"elsewhere")))
    assert engine.counters.dropped_acl == 1
    assert engine.trie.cached(b"open/a") is not None
    assert engine.trie.cached(b"elsewhere") is None
