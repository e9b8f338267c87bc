"""Random properties in random packets, to a real mosquitto and to us.

Method: each packet is right, or has one fault of a known kind.  What is right gets the same bytes from both.  What is
not is refused by us with the standard's code; mosquitto refuses it, too, but for the faults that it does not look for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Final

import pytest
from support import faulty5, played5
from support.faulty5 import ALIAS_INVALID, MALFORMED, PROTOCOL_ERROR, Played

pytestmark = pytest.mark.skipif(played5.MOSQUITTO is None, reason="mosquitto is not installed")

TAKEN_BY_MOSQUITTO: Final = re.compile(
    r"0x01 with a value that it can't have, in (publish|will)"
    r"|0x08 with a value that it can't have, in (publish|will)"
    r"|0x0b with a value that it can't have, in publish"
    r"|0x16 with a value that it can't have, in connect"
)
"""Faults that mosquitto 2.0 does not look for."""
OTHER_CODES: Final = {
    (MALFORMED, PROTOCOL_ERROR),
    (PROTOCOL_ERROR, MALFORMED),
    (ALIAS_INVALID, MALFORMED),
    (ALIAS_INVALID, PROTOCOL_ERROR),
}
"""Ours, which is the standard's, and mosquitto's for the same fault."""


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with played5.mosquitto_on_a_socket(tmp_path_factory.mktemp("mosquitto")) as path:
        yield path


def code_of(answer: str) -> int:
    """The code of a DISCONNECT, or of a CONNACK that refuses; 0 if there is none."""
    data = bytes.fromhex(answer.removesuffix("closed"))
    if data[:1] == b"\x20" and data[3] >= 0x80:
        return data[3]
    return data[-1] if data[-3:-1] == b"\xe0\x01" else 0


def judge(played: Played, theirs: str, ours: str) -> None:
    if not played.fault:
        assert ours == theirs
        return
    assert ours.endswith("closed")
    assert code_of(ours) == played.code
    if TAKEN_BY_MOSQUITTO.fullmatch(played.fault):
        return
    assert theirs.endswith("closed")
    told = code_of(theirs)
    assert told in (0, played.code) or (played.code, told) in OTHER_CODES


@pytest.mark.parametrize("count", [150, pytest.param(4000, marks=pytest.mark.slow)])
def test_mosquitto_takes_what_we_take(mosquitto: str, count: int) -> None:
    seed = Random().randrange(1 << 32)
    random = Random(seed)
    for number in range(count):
        played = faulty5.draw(random)
        theirs = played5.mosquitto_answers(mosquitto, played.packets)
        ours = played5.we_answer(played.packets)
        try:
            judge(played, theirs, ours)
        except AssertionError as error:
            sent = [packet.hex(" ") for packet in played.packets]
            error.add_note(f"seed {seed}, number {number}, {played.fault or 'no fault'}: {sent}")
            error.add_note(f"mosquitto: {theirs}\nrowcast:   {ours}")
            raise
