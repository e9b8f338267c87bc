"""What one part of a node has to complain of, which goes on and on: the log has it once a minute."""

from __future__ import annotations

from typing import Final

SAY_AGAIN_S: Final = 60.0

KNOWN_MAX: Final = 16


class Complaints:
    """Those of one part."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def is_due(self, problem: str, now: float) -> bool:
        """Whether this is to be said; numbers in it, such as seconds, make no other one of it."""
        words = "".join([one for one in problem if not one.isdigit()])
        if now - self._said.get(words, now - SAY_AGAIN_S) < SAY_AGAIN_S:
            return False
        if len(self._said) >= KNOWN_MAX:
            self._said.clear()
        self._said[words] = now
        return True
