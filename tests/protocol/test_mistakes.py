from __future__ import annotations

import pytest

from protocol.mistakes import NO_OPTION, Mistake, Mistaken, mistake_at, mistake_found_at


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        (mistake_at("shop.toml:12", "no such key"), "shop.toml:12: no such key"),
        (
            mistake_found_at("a:b.conf:12", "No port.", "Give one."),
            "Error: No port. Found at a:b.conf:12. Give one.",
        ),
    ],
    ids=["toml", "mosquitto.conf"],
)
def test_a_mistake_is_its_text_and_knows_its_place(mistake: Mistake, text: str) -> None:
    assert (mistake, mistake.line, mistake.place in text) == (text, 12, True)


def test_a_text_that_looks_as_if_it_had_a_place_has_none() -> None:
    error = Mistaken("passwords:7: is what the file is called", mistake_at("x.conf:1", "wrong"))
    assert str(error) == "passwords:7: is what the file is called\nx.conf:1: wrong"
    assert [(one.place, one.line, one.option) for one in error.mistakes] == [
        ("", 0, NO_OPTION),
        ("x.conf:1", 1, NO_OPTION),
    ]
