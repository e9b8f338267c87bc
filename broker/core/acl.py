"""Who may read and write which topic, as Mosquitto's acl_file says it.  Pure: text in, answers out.

A client's own rules (its `user` section, or the lines above every `user` for a client without a name) are asked first,
the `pattern` lines after them; in each, a `deny` that matches beats every other line that does.  What nothing allows is
forbidden, so a file of comments forbids everything.

A section's rules are sorted once and shared by its connections; each connection remembers what it was told of a topic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from broker.core.access import Access
from protocol.mqtt.topics import has_wildcard

DECISIONS_BYTES_MAX: Final = 32 * 1024
"""What the topics remembered per subject may take, for reading and writing; forgotten all at once when full."""

DECISION_BYTES: Final = 100
"""What one takes beside its name."""

REMEMBERED_TOPIC_BYTES_MAX: Final = 1024
"""A longer topic is decided anew each time."""

IDENTITIES_MAX: Final = 1024
"""Identities remembered by `Acl.may_read` and `Acl.may_write`."""

READ: Final = 1
WRITE: Final = 2
DENY: Final = 0
"""What a rule is about, as bits."""


class Subject(NamedTuple):
    """Whom the rules are about: `user_name` None is an anonymous client."""

    user_name: bytes | None
    client_id: bytes


class Rule(NamedTuple):
    """One line: a topic filter and what it allows, 0 to forbid."""

    topic_filter: bytes
    access: int


class Filters:
    """Topic filters that allow or forbid the same thing."""

    __slots__ = ("_exact", "_wild")

    def __init__(self, topic_filters: Iterable[bytes]) -> None:
        self._exact: set[bytes] = set()
        self._wild: list[list[bytes]] = []
        for topic_filter in topic_filters:
            if has_wildcard(topic_filter):
                self._wild.append(topic_filter.split(b"/"))
            else:
                self._exact.add(topic_filter)

    def match(self, topic: bytes, levels: list[bytes]) -> bool:
        """Whether one of the filters matches; `levels` is the topic, split."""
        return topic in self._exact or any(_level_match(wild, levels) for wild in self._wild)


def _level_match(wild: list[bytes], levels: list[bytes]) -> bool:
    if levels[0][:1] == b"$" and wild[0][:1] != b"$":  # as mosquitto: $SYS must be named
        return False
    for position, level in enumerate(wild):
        if level == b"#":
            return True
        if position >= len(levels) or level not in (b"+", levels[position]):
            return False
    return len(wild) == len(levels)


class Rules:
    """The `topic` lines of one section, sorted by what they do; shared by everybody whom they are about."""

    __slots__ = ("_deny", "_read", "_write")

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = tuple(rules)
        self._deny = Filters(rule.topic_filter for rule in rules if rule.access == DENY)
        self._read = Filters(rule.topic_filter for rule in rules if rule.access & READ)
        self._write = Filters(rule.topic_filter for rule in rules if rule.access & WRITE)

    def decide(self, topic: bytes, access: int) -> bool | None:
        """What they say; None if nothing."""
        levels = topic.split(b"/")
        if self._deny.match(topic, levels):
            return False
        allowing = self._read if access == READ else self._write
        return True if allowing.match(topic, levels) else None


_NO_RULES: Final = Rules(())


class RuledAccess(Access):
    """The answers for one subject.  Never changes: a new file makes a new one."""

    __slots__ = ("_acl", "_bytes", "_own", "_patterns", "_readable", "_subject", "_writable")

    def __init__(self, acl: Acl, own: Rules, subject: Subject) -> None:
        self._acl = acl
        self._own = own
        self._subject = subject
        self._patterns: Rules | None = None  # filled in when first asked: many clients never need them
        self._readable: dict[bytes, bool] = {}
        self._writable: dict[bytes, bool] = {}
        self._bytes = 0

    def may_read(self, topic: bytes) -> bool:
        known = self._readable.get(topic)
        return self._decide(topic, READ, self._readable) if known is None else known

    def may_write(self, topic: bytes) -> bool:
        known = self._writable.get(topic)
        return self._decide(topic, WRITE, self._writable) if known is None else known

    def decides_as(self, other: Access) -> bool:
        return isinstance(other, RuledAccess) and other._acl is self._acl and other._subject == self._subject

    def _decide(self, topic: bytes, access: int, decisions: dict[bytes, bool]) -> bool:
        decided = self._own.decide(topic, access)
        if decided is None:
            if self._patterns is None:
                self._patterns = self._acl.patterns_for(self._subject)
            decided = self._patterns.decide(topic, access) or False
        if len(topic) <= REMEMBERED_TOPIC_BYTES_MAX:
            self._bytes += DECISION_BYTES + len(topic)
            if self._bytes > DECISIONS_BYTES_MAX:
                self._readable.clear()
                self._writable.clear()
                self._bytes = DECISION_BYTES + len(topic)
            decisions[topic] = decided
        return decided


class GrantedAccess(Access):
    """What a token allows: topic filters to read, and to write.  Nothing is remembered: there are few filters."""

    __slots__ = ("_readable", "_writable")

    def __init__(self, readable: Filters, writable: Filters) -> None:
        self._readable = readable
        self._writable = writable

    def may_read(self, topic: bytes) -> bool:
        return self._readable.match(topic, topic.split(b"/"))

    def may_write(self, topic: bytes) -> bool:
        return self._writable.match(topic, topic.split(b"/"))


class TokenGone(Access):
    """Of somebody who came with a token and is not here: gets nothing; what was written had been allowed."""

    def may_read(self, topic: bytes) -> bool:
        return False


class Acl:
    """One acl_file.

    Args:
        names_have_slashes: put names that hold a `/` into patterns, as Mosquitto 2.0 does; 2.1 does not, because a
            client that chooses `victim/cmd` as its id would be let into what is the victim's.
    """

    def __init__(self, names_have_slashes: bool = False) -> None:
        self._not_in_names = (b"+", b"#") if names_have_slashes else (b"+", b"#", b"/")
        self.anonymous: list[Rule] = []
        self.users: dict[bytes, list[Rule]] = {}
        self.patterns: list[Rule] = []
        self.warnings: list[str] = []
        self._sections: dict[bytes | None, Rules] = {}
        self._known: dict[Subject, RuledAccess] = {}

    def access(self, user_name: bytes | None, client_id: bytes) -> RuledAccess:
        """The rules of one subject, to be kept by its connection."""
        own = self._sections.get(user_name)
        if own is None:
            lines = self.anonymous if user_name is None else self.users.get(user_name)
            own = Rules(lines) if lines else _NO_RULES
            if lines:
                self._sections[user_name] = own  # as many as the file has sections
        return RuledAccess(self, own, Subject(user_name, client_id))

    def patterns_for(self, subject: Subject) -> Rules:
        """The `pattern` lines, filled in for that subject."""
        user_name, client_id = subject
        if not self.patterns:
            return _NO_RULES
        # As mosquitto: a + or # in the name would make a wildcard of the pattern it is put into, a / another path.
        if any(special in (user_name or b"") + client_id for special in self._not_in_names):
            return _NO_RULES
        return Rules(
            Rule(_filled(rule.topic_filter, user_name, client_id), rule.access)
            for rule in self.patterns
            if user_name is not None or b"%u" not in rule.topic_filter
        )

    def may_read(self, subject: Subject, topic: bytes) -> bool:
        """Whether that subject may receive messages of that topic."""
        return self._remembered(subject).may_read(topic)

    def may_write(self, subject: Subject, topic: bytes) -> bool:
        """Whether that subject may publish to that topic."""
        return self._remembered(subject).may_write(topic)

    def _remembered(self, subject: Subject) -> RuledAccess:
        access = self._known.get(subject)
        if access is None:
            if len(self._known) >= IDENTITIES_MAX:
                self._known.clear()
            access = self._known[subject] = self.access(*subject)
        return access


def _filled(pattern: bytes, user_name: bytes | None, client_id: bytes) -> bytes:
    """As mosquitto 2.1: only a whole level `%u` or `%c` stands for name and id."""
    names = {b"%u": user_name or b"", b"%c": client_id}
    return b"/".join(names.get(level, level) for level in pattern.split(b"/"))
