"""What a stream of server-sent events says and does: the dialect `rowcast`, to read one topic filter only."""

from __future__ import annotations

from protocol.dialects.base import NOTHING, Clock, Close, Commands
from protocol.dialects.rowcast import Read, RowcastDialect, RowcastRules
from protocol.grants import Grants
from protocol.websocket import CloseCode


class EventStreamDialect(RowcastDialect):
    """One stream of server-sent events: a subscription that the request asked for, and nothing from the client.

    Args:
        grants, expires_at: of its token, or of nobody's.
    """

    def __init__(
        self, clock: Clock, rules: RowcastRules, now: float, read: Read, grants: Grants, expires_at: float
    ) -> None:
        super().__init__(clock, rules, now)
        self.read = read
        self._grants = grants
        self._is_anonymous = grants is rules.anonymous
        self._expires_at = expires_at
        self._set_alarm()

    def adopt_anonymous(self, anonymous: Grants) -> Commands:
        super().adopt_anonymous(anonymous)
        return NOTHING if self.may_be() else (Close(CloseCode.POLICY_VIOLATION, "this needs a token by now"),)

    def may_be(self) -> bool:
        """Whether the token, or its absence, allows to read what was asked for."""
        return self._grants.may_subscribe(self.read.topic_filter)

    def open(self, now: float) -> Commands:
        return (self.read,)  # type: ignore[return-value]

    def tick(self, now: float) -> Commands:
        self._heard_at = now
        return super().tick(now)
