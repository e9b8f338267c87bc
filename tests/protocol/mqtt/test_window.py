"""Sizes and numbers of what is sent."""

from __future__ import annotations

import pytest

from protocol.mqtt.packets import Publish
from protocol.mqtt.v5.codec import encode
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import CONTENT_TYPE
from protocol.mqtt.window import Window, publish_size


@pytest.mark.parametrize(
    "payload", [0, 1, 120, 121, 122, 123, 124, 16_370, 16_380, 16_384, 2_097_140, 2_097_152]
)
def test_a_publish_has_the_size_that_is_reckoned(payload: int) -> None:
    for text in (0, 100, 200):
        properties = Properties(texts={CONTENT_TYPE: b"x" * text}) if text else NO_PROPERTIES
        for qos in (0, 1):
            packet = Publish(b"a/b", bytes(payload), qos, False, False, qos * 7, properties)
            assert publish_size(3, 3 + text if text else 0, payload, qos * 2) == len(encode(packet))


def test_all_who_share_a_window_have_its_new_limits() -> None:
    window, other = Window(), Window(1, 2, 3, 4)
    window.adopt(other)
    assert vars_of(window) == vars_of(other) == (1, 2, 3, 4)


def vars_of(window: Window) -> tuple[int, int, int, int]:
    return window.inflight_messages, window.inflight_bytes, window.queued_messages, window.queued_bytes
