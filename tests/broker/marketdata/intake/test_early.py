"""Changes that come before the whole which they change are taken again behind it, as many as may be kept."""

from __future__ import annotations

from typing import Any

import pytest

from broker.marketdata.intake import early
from broker.marketdata.intake.early import Early
from broker.marketdata.intake.sequence import Numbered


def change(number: int, of: str = "X") -> Numbered:
    return Numbered(True, 0, number, number - 1, of, is_whole=False, is_founded=False)


def whole(number: int, of: str = "X") -> Numbered:
    return Numbered(True, 0, number, -1, of, is_whole=True)


def take(kept: Early, message: Numbered) -> list[Any]:
    row: Any = f"{message.of}{message.number}"
    return kept.note(message, row)


def test_those_behind_the_whole_come_again_once_in_their_order() -> None:
    kept = Early()
    for number in (5, 7, 6, 8):
        assert take(kept, change(number)) == []
    assert take(kept, whole(6)) == ["X7", "X8"]
    assert take(kept, whole(6)) == []


def test_a_change_of_what_is_known_is_not_kept() -> None:
    kept = Early()
    take(kept, change(5)._replace(is_founded=True))
    assert take(kept, whole(1)) == []


def test_each_has_its_own() -> None:
    kept = Early()
    take(kept, change(5, "X"))
    take(kept, change(5, "Y"))
    assert take(kept, whole(1, "Y")) == ["Y5"]
    assert take(kept, whole(1, "X")) == ["X5"]


def test_of_too_many_of_one_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "KEPT_MAX", 3)
    kept = Early()
    for number in range(5):
        take(kept, change(number))
    assert take(kept, whole(-1)) == ["X2", "X3", "X4"]


def test_of_too_many_of_all_the_first_are_kept_and_who_has_some_gets_room_by_giving_up_its_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(early, "KEPT_MAX", 2)
    monkeypatch.setattr(early, "KEPT_ALL_MAX", 3)
    kept = Early()
    for of in ("X", "X", "Y", "Z"):
        take(kept, change(1, of))
    take(kept, change(2, "X"))
    assert take(kept, whole(0, "Z")) == [], "there was no room"
    assert take(kept, whole(0, "Y")) == ["Y1"]
    take(kept, change(3, "Z"))
    assert take(kept, whole(0, "X")) == ["X1", "X2"]
    assert take(kept, whole(0, "Z")) == ["Z3"]


def test_names_for_which_there_is_no_room_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "KEPT_ALL_MAX", 1)
    kept = Early()
    for number in range(100):
        take(kept, change(1, f"of {number}"))
    assert list(kept._kept) == ["of 0"]
