"""Runs of PUBLISH packets written anew: each packet says the same in the other version, one by one by the codecs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.mqtt import codec as codec3
from protocol.mqtt.packets import Publish
from protocol.mqtt.v5 import codec as codec5
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import CONTENT_TYPE
from protocol.mqtt.v5.runs import as_3, as_5, with_ids

PACKETS = st.lists(
    st.builds(
        lambda topic, payload, text: (b"t" * topic, bytes(payload), b"x" * text),
        st.integers(1, 200),
        st.sampled_from([0, 1, 120, 126, 127, 128, 16_380, 16_384]),
        st.sampled_from([0, 1, 122, 123, 124, 125, 126, 200]),
    ),
    min_size=1,
    max_size=4,
)
ID_7 = b"\x0b\x07"


def run_of_5(packets: list[tuple[bytes, bytes, bytes]], ids: list[int] | None = None) -> bytes:
    return b"".join(
        codec5.encode(
            Publish(
                topic,
                payload,
                properties=Properties(texts={CONTENT_TYPE: text} if text else None, subscription_ids=ids),
            )
        )
        for topic, payload, text in packets
    )


def run_of_3(packets: list[tuple[bytes, bytes, bytes]]) -> bytes:
    return b"".join(codec3.encode(Publish(topic, payload)) for topic, payload, _ in packets)


@given(PACKETS)
def test_without_properties(packets: list[tuple[bytes, bytes, bytes]]) -> None:
    assert as_3(run_of_5(packets)) == run_of_3(packets)


@given(PACKETS)
def test_with_none(packets: list[tuple[bytes, bytes, bytes]]) -> None:
    assert as_5(run_of_3(packets)) == run_of_5([(topic, payload, b"") for topic, payload, _ in packets])


@given(PACKETS)
def test_with_identifiers_behind_its_own_properties(packets: list[tuple[bytes, bytes, bytes]]) -> None:
    assert with_ids(run_of_5(packets), ID_7) == run_of_5(packets, [7])
