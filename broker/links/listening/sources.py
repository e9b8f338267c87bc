"""What the current rules let those do who are not here: publishers of retained messages, sessions without a connection.

A client is known by the port of its listener, its user name and its client id, all of which are kept over restarts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.core.access import Access
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.review import Judge
from broker.core.session import Session
from broker.gateway.authentication import Rules
from broker.links.listening.door import Door
from broker.links.mqtt.link import MqttLink
from protocol.mqtt.v5.reasons import ReasonCode

IDENTITIES_MAX: Final = 4096
"""Identities whose rules are remembered; forgotten all at once when full."""


class Nothing(Access):
    """May do nothing."""

    def may_read(self, topic: bytes) -> bool:
        return False

    def may_write(self, topic: bytes) -> bool:
        return False


class All(Access):
    """May do what all of these allow."""

    def __init__(self, accesses: list[Access]) -> None:
        self._accesses = accesses

    def may_read(self, topic: bytes) -> bool:
        return all(access.may_read(topic) for access in self._accesses)

    def may_write(self, topic: bytes) -> bool:
        return all(access.may_write(topic) for access in self._accesses)


class Sources(Judge):
    """The rules of all listeners.

    Args:
        doors: of every listener; none where nobody can connect and nothing is forbidden.
    """

    def __init__(self, doors: Iterable[Door]) -> None:
        super().__init__()
        self._doors = tuple(doors)
        self._rules: dict[int, set[Rules]] = {}
        self._common: Rules | None = None
        self._known: dict[tuple[int, bytes | None, bytes], Access | None] = {}
        self.forget()

    def forget(self) -> None:
        """The rules were read again: ask the doors for theirs."""
        self._rules = {}
        for door in self._doors:
            self._rules.setdefault(door.port, set()).add(door.rules)
        every = {door.rules for door in self._doors}
        self._common = every.pop() if len(every) == 1 else None
        self._known.clear()

    def access_for(self, listener_port: int, user_name: bytes | None, client_id: bytes) -> Access | None:
        """What that client may do; None where nothing is forbidden."""
        identity = (listener_port, user_name, client_id)
        if identity in self._known:
            return self._known[identity]
        if len(self._known) >= IDENTITIES_MAX:
            self._known.clear()
        access = self._known[identity] = self._ask(*identity)
        return access

    def may_still_write(self, publication: Publication) -> bool:
        """`check_retain_source`: whether the publisher of a retained message could publish it now.

        What the broker, a feed or the embedding program published has no client id, and is never withheld.
        """
        if not publication.client_id:
            return True
        access = self.access_for(publication.listener_port, publication.user_name, publication.client_id)
        return access is None or access.may_write(publication.topic)

    def renew(self, engine: Engine) -> None:
        """The doors have read their rules: what is kept, and who may stay, is decided by them from now on.

        Every receiver is asked what it may read only where some rule could forbid it; those who are away, too.
        """
        self.forget()
        engine.review.judge = self
        checks = engine.policy.check_retain_source and self._restricts_writing()
        engine.may_still_write = self.may_still_write if checks else None
        engine.trie.restrict(any(door.rules.restricts_reading for door in self._doors))
        with engine.turn:
            engine.reconsider()

    def _restricts_writing(self) -> bool:
        """Whether some publisher, here or gone, might get another answer than that it may write."""
        common = self._common
        return len(self._doors) > 0 and (common is None or common.restricts_writing)

    def decide(self, session: Session) -> bool:
        """By the rules of its listener; who is away is known by what is kept of it."""
        link = session.link
        if isinstance(link, MqttLink):
            verdict = link.verdict
            if verdict is not None and not link.door.authenticator.is_still_valid(verdict):
                session.set_access(Nothing())
                return False
            link.reconsider(session)
        elif link is None:
            session.set_access(self._access_of_absent(session))
        return True

    def _access_of_absent(self, session: Session) -> Access | None:
        """Whoever would not be let in any more gets nothing, and says nothing: its will was to come later, perhaps.

        Where no listener has port 0, whoever came by that is let in by a door of the program around the broker.
        """
        port, user_name = session.listener_port, session.user_name
        doors = [door for door in self._doors if door.port == port] or (self._doors if port else ())
        if doors and not any(door.authenticator.may_come(user_name) for door in doors):
            return Nothing()
        return self.access_for(port, user_name, session.client_id)

    def dismiss(self, session: Session) -> None:
        """What its password file says of this client is another thing than when it came."""
        link = session.link
        assert link is not None
        link.will_wanted = False  # as mosquitto
        link.code = ReasonCode.NOT_AUTHORIZED
        link.close("disconnected, not authorised.")

    def _ask(self, listener_port: int, user_name: bytes | None, client_id: bytes) -> Access | None:
        if not self._rules:
            return None
        rules = self._rules.get(listener_port)
        if rules is None and self._common is not None:
            rules = {self._common}
        # As mosquitto: where listeners have rules of their own, one that is gone allows nothing.
        if rules is None:
            return Nothing()
        # Two addresses may share a port, and all unix sockets have port 0: which one it was is not known.
        found = [one.access_for(user_name, client_id) for one in rules]
        forbidding = [access for access in found if access is not None]
        if len(forbidding) < 2:
            return forbidding[0] if forbidding else None
        return All(forbidding)
