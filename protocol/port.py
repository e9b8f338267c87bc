"""A TCP port that somebody wrote as text: one rule for the command line, both configurations and the PROXY line."""

from __future__ import annotations

from typing import Final

PORT_MAX: Final = 65535

NONE: Final = -1
"""In place of a port: the text is none."""

_DIGITS_MAX: Final = 20
"""Zeros in front among them; Python makes no number of thousands of digits."""


def port_of(text: str) -> int:
    """The port, 0 to 65535, or `NONE`.

    Digits of ASCII are taken, zeros in front included, and nothing beside them: no sign, no space, no digit of another
    script.  Port 0, by which the system chooses one, is for the caller to refuse.
    """
    if len(text) > _DIGITS_MAX or not (text.isascii() and text.isdigit()):
        return NONE
    port = int(text)
    return port if port <= PORT_MAX else NONE
