"""What one word of mosquitto.conf is: where it stands, how its value is read, what Rowcast does with it."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Level(Enum):
    """Whose setting an option is, and so what must have been defined above it."""

    BROKER = "broker"
    LISTENER = "listener"
    """Below `listener` or `port`, nowhere else."""
    LISTENER_OR_DEFAULT = "listener (or the default one)"
    """Above any listener it speaks of the default listener on 1883."""
    NAMED_LISTENER = "listener (not the default one)"
    SECURITY = "broker, or each listener with per_listener_settings"
    BRIDGE = "bridge"
    PLUGIN = "plugin"


class Kind(Enum):
    """How the text after the name is read."""

    BOOLEAN = "true or false"
    INTEGER = "whole number"
    TEXT = "text"
    """The rest of the line, blanks around it removed; a `#` in it is part of it."""
    WORD = "word"
    SPECIAL = "special"
    """Read by a function of its own."""
    ANYTHING = "anything"
    """Not looked at."""


class Role(Enum):
    """What becomes of an option of mosquitto.conf."""

    HONOURED = "honoured"
    WITHOUT_EFFECT = "accepted, without effect"
    REFUSED = "refused"


@frozen
class Option:
    """One word of mosquitto.conf."""

    name: str
    level: Level
    kind: Kind
    default: str
    meaning: str
    role: Role = Role.HONOURED
    note: str = ""
    """Without effect: why.  Refused: why, and what to do instead.  Honoured: what else one should know."""
    field: str = ""
    """Where the value goes, as `limits.max_queued_messages`; empty where a function of its own decides."""
    low: int | None = None
    high: int | None = None
    clamp: int | None = None
    """What a value below `low` becomes; None makes it a mistake."""
    range_error: str = ""
    """Mosquitto's words for a value out of range; `{value}` is the value."""
    words: tuple[str, ...] = ()
    title: str = ""
    """What Mosquitto calls the option in its messages, where that is not its name."""
    once: bool = False
    """A second line for the same thing is a mistake."""
    reload: bool = False
    """Read again on SIGHUP."""
    alias_of: str = ""

    @property
    def titled(self) -> str:
        """Its name as Mosquitto's messages write it."""
        return self.title or self.name

    @property
    def range_text(self) -> str:
        """`0 to 2`, `at least 20`, `a, b or c`; empty where anything goes."""
        if self.words:
            return " or ".join(filter(None, (", ".join(self.words[:-1]), self.words[-1])))
        if self.kind is Kind.INTEGER and self.high is not None:
            return f"{self.low or 0} to {self.high}"
        if self.low is not None and self.clamp is None:
            return f"at least {self.low}"
        return f"at most {self.high}" if self.high is not None else ""
