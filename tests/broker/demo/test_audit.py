"""What came is held against what was committed, for each client on its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from broker.demo.audit import ARRIVED_SHOWN, Audit, Observer


def observer(audit: Audit, events: int = 4) -> Observer:
    postgres: Any = SimpleNamespace(version="18")
    simulator: Any = SimpleNamespace(events=events, transactions=2)
    return Observer(postgres, simulator, audit, ("join",), "wal", 100.0)


def test_each_client_has_its_balance() -> None:
    audit = Audit()
    audit.expect_mqtt("t", "1")
    audit.expect_mqtt("t", "2")
    audit.expect_websocket("c", "1")
    audit.committed(101.0)
    audit.mqtt.receive("t", "1", 101.5)
    audit.websocket.receive("c", "1", 102.0)
    assert audit.awaited == 1
    figures = observer(audit).snapshot(103.0)
    mqtt, websocket = figures.transports
    assert (mqtt.name, mqtt.summary.expected, mqtt.summary.received, mqtt.summary.lost) == ("MQTT", 2, 1, 0)
    assert (websocket.name, websocket.summary.is_exact) == ("WebSocket", True)
    assert (figures.elapsed_s, figures.events, figures.transactions) == (3.0, 4, 2)


def test_at_the_end_what_has_not_come_is_lost() -> None:
    audit = Audit()
    audit.expect_websocket("c", "1")
    audit.committed(101.0)
    watched = observer(audit)
    assert [one.summary.lost for one in watched.snapshot(101.1).transports] == [0, 0]
    assert [one.summary.lost for one in watched.snapshot(101.1, final=True).transports] == [0, 1]


def test_the_last_arrivals_are_shown_with_their_client() -> None:
    audit = Audit()
    for number in range(ARRIVED_SHOWN + 1):
        audit.mqtt.receive("t", str(number), 101.0)
    audit.websocket.receive("c", "x", 101.0)
    figures = observer(audit).snapshot(102.0, "careful")
    assert figures.arrived == (("MQTT", "t", "1"), ("MQTT", "t", "2"), ("WebSocket", "c", "x"))
    assert (figures.warning, figures.invitations, figures.kind) == ("careful", ("join",), "wal")
