"""What a `mosquitto.db` holds becomes sessions of ours; what can't is left out and named."""

from __future__ import annotations

import math

import pytest
from support import mosquitto_files as files

from broker.storage.mosquitto_import import read_mosquitto
from broker.storage.records import SessionRecord
from protocol.mqtt.outbound import AWAIT_PUBACK, AWAIT_PUBCOMP, AWAIT_PUBREC
from protocol.mqtt.v5.subscribing import RETAIN_AS_PUBLISHED, options_of


def read(*chunks: bytes) -> tuple[list[SessionRecord], list[str]]:
    saved, left_out = read_mosquitto(files.database(*chunks), 1000.0, {8883: b"site/"})
    return saved.sessions, left_out


@pytest.mark.parametrize(
    ("expires_at", "expiry_s", "away_since", "lasts_s"),
    [
        (0, files.NEVER, math.inf, math.inf),
        (5000, files.NEVER, math.inf, math.inf),
        (0, 3600, math.inf, 3600.0),
        (5000, 3600, 1400.0, 3600.0),
    ],
)
def test_how_long_a_session_lasts_goes_on_from_when_its_client_left(
    expires_at: int, expiry_s: int, away_since: float, lasts_s: float
) -> None:
    (record,), left_out = read(files.client(b"c", expires_at=expires_at, expiry_s=expiry_s))
    assert (record.disconnected_at, record.expiry_s) == (away_since, lasts_s)
    assert left_out == []


def test_a_session_that_ends_with_its_connection_goes_with_all_it_had_and_without_a_word() -> None:
    chunks = (files.subscription(b"c", b"#"), files.message(1, b"t"), files.owed(b"c", 1))
    assert read(files.client(b"c", expiry_s=0), *chunks) == ([], [])


def test_a_session_has_the_mount_point_of_its_listener() -> None:
    (one, other), _ = read(files.client(b"a", port=8883), files.client(b"b", port=1883))
    assert (one.mount_point, other.mount_point) == (b"site/", b"")
    assert (one.user_name, one.listener_port) == (b"user", 8883)


@pytest.mark.parametrize(
    ("qos", "state", "awaited"),
    [
        (1, 3, AWAIT_PUBACK),
        (2, 5, AWAIT_PUBREC),
        (2, 6, AWAIT_PUBCOMP),
        (2, 9, AWAIT_PUBCOMP),
        (2, 3, AWAIT_PUBREC),
    ],
)
def test_a_message_in_flight_awaits_what_it_awaited_there(qos: int, state: int, awaited: int) -> None:
    (record,), _ = read(
        files.client(b"c"), files.message(1, b"t"), files.owed(b"c", 1, 5, qos=qos, state=state)
    )
    assert [(entry.packet_id, entry.qos, entry.state) for entry in record.inflight] == [(5, qos, awaited)]
    assert record.states == bytes((awaited,))


def test_the_queue_gets_the_packet_ids_that_it_has_there() -> None:
    chunks = [files.message(number, b"t/%d" % number) for number in (1, 2, 3)]
    owed = [files.owed(b"c", 1, 0, qos=0), files.owed(b"c", 2, 8), files.owed(b"c", 3, 9)]
    (record,), _ = read(*owed, *chunks, files.client(b"c", last_packet_id=9))
    assert [waiting.message.topic for waiting in record.queued] == [b"t/1", b"t/2", b"t/3"]
    assert [waiting.position for waiting in record.queued] == [1, 2, 3]
    assert record.last_packet_id == 7


def test_what_is_queued_needs_no_packet_id() -> None:
    (record,), left_out = read(files.client(b"c"), files.message(1, b"t"), files.owed(b"c", 1, 0))
    assert (len(record.queued), record.last_packet_id, left_out) == (1, 0, [])


def test_only_what_came_at_qos_2_is_remembered_as_come() -> None:
    came = [files.owed(b"c", 1, 4, qos=1, direction=0), files.owed(b"c", 1, 5, qos=2, direction=0)]
    (record,), _ = read(files.client(b"c"), files.message(1, b"t"), *came)
    assert [packet_id for packet_id, _ in record.inbound] == [5]


def test_a_subscription_keeps_its_options_but_for_when_retained_messages_come() -> None:
    (record,), _ = read(files.client(b"c"), files.subscription(b"c", b"#", qos=2, options=0x28))
    assert options_of(record.subscriptions[b"#"]) == (2 | RETAIN_AS_PUBLISHED, 0)


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ((files.message(1, b"t/#"),), "a message with a topic that is none: b't/#'"),
        ((files.message(1, b"t", qos=3),), "a message to b't' with a QoS that is none: 3"),
        ((files.message(1, b"t", properties=b"\x02\x01\x02"),), "the properties of a message to b't': "),
        ((files.retained(9),), "a retained message that is not in the file"),
        ((files.client(b"c"), files.owed(b"c", 9)), "a message of c that is not in the file"),
        ((files.message(1, b"t"), files.owed(b"\xff", 1)), "a message of \ufffd, who has no session"),
        ((files.subscription(b"c", b"#"),), "a subscription to b'#' of c, who has no session"),
        (
            (files.client(b"c"), files.subscription(b"c", b"a/#/b")),
            "a subscription of c with a filter that is none: b'a/#/b'",
        ),
        (
            (files.client(b"c"), files.subscription(b"c", b"#", qos=3)),
            "a subscription of c to b'#' with a QoS that is none: 3",
        ),
        (
            (files.client(b"c"), files.message(1, b"t"), files.owed(b"c", 1, qos=3, state=3)),
            "a message of c with a QoS that is none: 3",
        ),
        (
            (files.client(b"c"), files.message(1, b"t"), files.owed(b"c", 1, 0, state=3)),
            "a message of c without a packet id",
        ),
        (
            (files.client(b"c"), files.message(1, b"t"), files.owed(b"c", 1, 0, qos=2, direction=0)),
            "a message of c without a packet id",
        ),
    ],
)
def test_what_mqtt_does_not_have_is_left_out_and_named(chunks: tuple[bytes, ...], said: str) -> None:
    sessions, left_out = read(*chunks)
    assert len(left_out) == 1
    assert left_out[0].startswith(said)
    assert not any(one.inflight or one.queued or one.inbound or one.subscriptions for one in sessions)


def test_a_message_whose_properties_are_wrong_comes_without_them() -> None:
    chunks = (files.client(b"c"), files.message(1, b"t", properties=b"\x02\x01\x02"), files.owed(b"c", 1))
    (record,), _ = read(*chunks)
    assert [waiting.message.properties for waiting in record.queued] == [b""]


def test_what_mosquitto_said_of_itself_is_not_retained_here() -> None:
    data = files.database(
        files.message(1, b"$SYS/broker/uptime"), files.message(2, b"t"), files.retained(1), files.retained(2)
    )
    saved, left_out = read_mosquitto(data, 1000.0, {})
    assert [one.topic for one in saved.retained] == [b"t"]
    assert left_out == []
