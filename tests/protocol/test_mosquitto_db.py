"""The chunks of a `mosquitto.db`: what is read of each, and what is said of a file that is none."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from support import mosquitto_files as files

from protocol.mosquitto_db import CLIENT, MESSAGE, RETAINED, SUBSCRIPTION, NotReadable, chunks


def only(data: bytes) -> tuple[int, Any]:
    (found,) = chunks(data)
    return found


def test_numbers_of_mqtt_are_big_endian_and_those_of_64_bits_as_the_machine_has_them() -> None:
    kind, found = only(files.database(files.client(b"c", expires_at=5, expiry_s=3600, last_packet_id=258)))
    assert kind == CLIENT
    assert (found.session_expires_at, found.session_expiry_s, found.last_packet_id) == (5, 3600, 258)
    assert (found.client_id, found.user_name, found.listener_port) == (b"c", b"user", 1883)


def test_format_5_has_neither_the_port_nor_the_name_of_a_client() -> None:
    body = struct.pack("<q", 0) + struct.pack(">IHH", 3600, 7, 1) + b"c"
    _, found = only(files.database(files.chunk(6, body), version=5))
    assert (found.client_id, found.last_packet_id) == (b"c", 7)
    assert found.listener_port is None
    assert found.user_name == b""


@pytest.mark.parametrize(
    ("written", "read"), [(b"", b""), (b"\x00", b""), (b"\x03\x26ab", b"\x26ab"), (b"\x02\x26ab", b"\x26a")]
)
def test_properties_stand_behind_their_length_if_there_are_any(written: bytes, read: bytes) -> None:
    kind, found = only(files.database(files.message(1, b"t", b"payload", properties=written)))
    assert kind == MESSAGE
    assert (found.topic, found.payload, found.properties) == (b"t", b"payload", read)


def test_chunks_come_in_the_order_of_the_file_and_a_kind_that_is_not_known_is_passed_over() -> None:
    data = files.database(
        files.retained(1), files.chunk(1, b"config"), files.chunk(99, b"?"), files.subscription(b"c", b"#")
    )
    assert [kind for kind, _ in chunks(data)] == [RETAINED, SUBSCRIPTION]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not begin as a mosquitto.db"),
        (b"SQLite format 3\0".ljust(40), "does not begin as a mosquitto.db"),
        (files.database()[:-1], "does not begin as a mosquitto.db"),
        (files.database(version=4), "its format is number 4, and numbers 5 and 6 are known"),
        (files.database(files.retained(1)[:-1]), "cut off: the chunk at byte 23 has 8 bytes"),
        (files.database(files.retained(1), b"\0\0\0"), "the chunk at byte 39 is not what its kind says"),
        (files.database(files.chunk(4, bytes(9))), "the chunk at byte 23 is not what its kind says"),
        (files.database(files.chunk(2, bytes(9))), "the chunk at byte 23 is not what its kind says"),
        (
            files.database(files.message(1, b"t", properties=b"\x04\x26ab")),
            "the chunk at byte 23 is not what its kind says",
        ),
    ],
)
def test_what_is_no_such_file_is_refused_in_words(data: bytes, said: str) -> None:
    with pytest.raises(NotReadable) as refused:
        list(chunks(data))
    assert said in str(refused.value)
