"""Totals that are made of others, and reasons that only code names."""

from __future__ import annotations

from broker.core.counters import Counters
from protocol.mqtt.window import EXPIRED, TOO_LARGE


def test_what_a_queue_lost_is_counted_by_its_reason() -> None:
    counters = Counters()
    for why in (TOO_LARGE, EXPIRED, EXPIRED):
        counters.discarded(why)
    assert (counters.dropped_too_large, counters.messages_expired) == (1, 2)


def test_refusals_are_connections_refused_and_those_who_asked_nothing_are_not() -> None:
    counters = Counters()
    counters.refuse("password")
    counters.refuse("password")
    counters.turn_away("limit")
    assert (counters.connections_refused, counters.refused) == (2, {"password": 2, "limit": 1})


def test_sums() -> None:
    counters = Counters()
    counters.publishes_sent, counters.other_packets_sent = 5, 7
    counters.dropped_outbox_full, counters.dropped_queue_full, counters.dropped_acl = 2, 3, 100
    assert (counters.packets_sent(), counters.publishes_dropped()) == (12, 5)
