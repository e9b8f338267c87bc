"""What a person wrote wrongly in a file: words, and the place they are about."""

from __future__ import annotations

from typing import Final

NO_OPTION: Final = ("", "")


class Mistake(str):
    """What is wrong and what would be right, as it is printed, logged and answered.

    Attributes:
        place: `FILE:LINE` that stands in the text; "" if none does.
        option: key and value of the option that the mistake is about, where only who has read the configuration
            knows its place; `NO_OPTION` if there is none.
    """

    place: str
    option: tuple[str, str]

    def __new__(cls, text: str, place: str = "", option: tuple[str, str] = NO_OPTION) -> Mistake:
        mistake = super().__new__(cls, text)
        mistake.place, mistake.option = place, option
        return mistake

    @property
    def line(self) -> int:
        """The line of its file; 0 if it has none."""
        return int(self.place.rpartition(":")[2] or 0)


def mistake_at(place: str, text: str) -> Mistake:
    """As compilers put it."""
    return Mistake(f"{place}: {text}", place)


def mistake_found_at(place: str, text: str, cure: str) -> Mistake:
    """As Mosquitto puts it: what is wrong, where, and then what would be right."""
    return Mistake(f"Error: {text} Found at {place}. {cure}", place)


class Mistaken(Exception):
    """All mistakes of what was read, at once.  A text that is no `Mistake` is one without a place."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(one if isinstance(one, Mistake) else Mistake(one) for one in mistakes)
