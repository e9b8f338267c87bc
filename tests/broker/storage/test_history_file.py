"""History outlives an orderly end and nothing else: a crash, damage and another configuration start it anew."""

from __future__ import annotations

import json
import logging
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.config.history import HistoryRule
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.publication import Publication
from broker.storage.history_file import MAGIC, history_for, new_epoch, save_history

RULES = (HistoryRule(("row/#", "state"), count=10),)
NOW, UNIX_NOW = 100.0, 1_800_000_000.0


def history(
    path: Path | None, *, now: float = NOW, unix_now: float = UNIX_NOW, rules: tuple[HistoryRule, ...] = RULES
) -> History:
    return history_for(rules, path, now, unix_now)


def publish(history: History, *payloads: bytes, topic: bytes = b"row/a") -> None:
    """Publish to all rings, as an engine does that has them as receivers."""
    engine = Engine()
    for ring in history.rings:
        engine.subscribe(ring, ring.topic_filter, 0)
    for payload in payloads:
        engine.publish(Publication(topic, payload, 1, True))
    for ring in history.rings:
        engine.unsubscribe(ring, ring.topic_filter)


def kept(history: History) -> list[tuple[int, bytes, bytes, float]]:
    return [
        (one.sequence, one.topic, one.payload, at) for ring in history.rings for one, at, _ in ring.kept()
    ]


def test_positions_of_an_earlier_process_are_understood_and_its_messages_are_there(tmp_path: Path) -> None:
    path = tmp_path / "history"
    before = history(path)
    publish(before, b"1", b"\xff2")
    given = before.positions.at(1)
    save_history(before, path, NOW, UNIX_NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    after = history(path, now=5.0, unix_now=UNIX_NOW + 10)
    assert kept(after) == [(1, b"row/a", b"1", -5.0), (2, b"row/a", b"\xff2", -5.0)]
    found = after.missed(b"row/#", given)
    assert [one.payload for piece in found.pieces for one in piece.publications(b"row/#", False)] == [
        b"\xff2"
    ]
    publish(after, b"3")
    assert after.positions.here() == f"{after.positions.epoch}/3"


def test_the_file_is_read_once_so_after_a_crash_nothing_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "history"
    before = history(path)
    publish(before, b"1")
    save_history(before, path, NOW, UNIX_NOW)
    assert kept(history(path)) != []
    assert not path.exists()
    after_a_crash = history(path)
    assert kept(after_a_crash) == []
    assert {ring.lost_why for ring in after_a_crash.rings} == {"the server was started anew"}
    assert after_a_crash.positions.number_of(before.positions.at(1)) is None


def test_a_ring_that_is_new_says_that_it_knows_nothing_of_before(tmp_path: Path) -> None:
    path = tmp_path / "history"
    before = history(path)
    publish(before, b"1")
    save_history(before, path, NOW, UNIX_NOW)
    after = history(path, rules=(HistoryRule(("row/#", "other/#")),))
    assert [ring.lost_why for ring in after.rings] == [
        before.rings[0].lost_why,
        "no history was kept before this server started",
    ]
    assert [ring.lost_through for ring in after.rings] == [0, 1]


def test_a_smaller_ring_keeps_the_last_of_it(tmp_path: Path) -> None:
    path = tmp_path / "history"
    before = history(path)
    publish(before, b"1", b"2", b"3")
    save_history(before, path, NOW, UNIX_NOW)
    after = history(path, rules=(HistoryRule(("row/#",), count=1),))
    assert [payload for _, _, payload, _ in kept(after)] == [b"3"]
    assert after.rings[0].lost_through == 2


def cut(data: bytes) -> bytes:
    return data[:-1]


def another_file(data: bytes) -> bytes:
    return b"x" + data


def turn_a_bit(data: bytes) -> bytes:
    return data[:-3] + bytes((data[-3] ^ 1,)) + data[-2:]


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, another_file, turn_a_bit, empty])
def test_a_damaged_file_is_as_none_and_the_log_says_so(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history"
    before = history(path)
    publish(before, b"1")
    save_history(before, path, NOW, UNIX_NOW)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert kept(history(path)) == []
    assert caplog.messages == [f"The history in {path} is damaged, and starts anew."]


def test_a_file_that_can_not_be_read_is_as_none_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert kept(history(tmp_path)) == []
    assert caplog.messages == [f"The history in {tmp_path} can't be read, and starts anew: Is a directory"]


def test_where_nothing_outlives_the_process_nothing_is_looked_for() -> None:
    assert history(None).rings[0].lost_why == "the server was started anew"


def test_a_file_of_a_version_without_places_and_traces_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history"
    ring = {"lost_through": 4, "lost_why": "it was long ago", "kept": [[5, UNIX_NOW, "row/a", "x", 1, False]]}
    whole = {"epoch": "old", "number": 5, "older": {"older": 2}, "rings": {"row/#": ring}}
    text = zlib.compress(json.dumps(whole).encode())
    path.write_bytes(MAGIC + zlib.crc32(text).to_bytes(4, "big") + text)
    after = history(path)
    assert kept(after) == [(5, b"row/a", b"x", NOW)]
    assert (after.rings[0].lost_through, after.rings[0].lost_why) == (4, "it was long ago")
    assert [after.positions.number_of(at) for at in ("old/5", "old/6", "older/2", "older/3")] == [
        5,
        None,
        2,
        None,
    ]


def test_no_two_processes_have_the_same_name() -> None:
    names = {new_epoch() for _ in range(100)}
    assert len(names) == 100
    assert not any("/" in name for name in names)
