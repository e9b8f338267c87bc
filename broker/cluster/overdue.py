"""Without the quorum: who waits for the log for too long is sent to another node; what nobody else has goes on waiting.

Hot, for what is asked at each batch: compiled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster.batch import Waiting
from broker.cluster.repeats import turn_away
from broker.cluster.unsent import Unsent
from protocol.mqtt.v5.reasons import ReasonCode

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

logger = logging.getLogger("broker.cluster")

REFUSE_AFTER_S: Final = 6.0
"""When the log has taken nothing for so long, who publishes is sent elsewhere.  A leader that dies costs 1 to 5 s."""


class Overdue:
    """What one node owes the log for too long.

    Args:
        waiting: of which some is given up.

    Attributes:
        refuses: the log takes nothing, and publishers are sent elsewhere.
        taken_at: when it took something last, or began to owe something.
        on_given_up: at each message that does not wait any more.
    """

    def __init__(self, engine: Engine, status: ClusterStatus, waiting: Unsent) -> None:
        self.refuses = False
        self.taken_at = trio.current_time()
        self.on_given_up: Callable[[Waiting], None] = lambda one: None
        self._engine = engine
        self._status = status
        self._waiting = waiting

    def is_too_long(self, owed: list[Waiting]) -> bool:
        """Whether the log has taken nothing for too long; if so, publishers are refused from now on."""
        if not owed or trio.current_time() - self.taken_at < REFUSE_AFTER_S:
            return False
        if not self.refuses:
            self.refuses = True
            why = self._status.log_problem or f"it has taken nothing for {REFUSE_AFTER_S:g} s"
            logger.error("Clients that publish at QoS 1 and 2 are sent elsewhere: %s.", why)
        return True

    def taken(self, now: float) -> None:
        """The log takes messages; what comes from now on has its time."""
        self.refuses = False
        self.taken_at = now

    def send_elsewhere(self, owed: list[Waiting]) -> None:
        """Who waits for the log tries another node.  Inside a turn."""
        for one in owed:
            for client_id in one.clients():
                turn_away(self._engine, client_id)
        # What is under way may be in the log already; the rest is not, and its client sends it again.
        self._waiting.restrict([one for one in self._waiting.all() if not self._is_given_up(one)])
        for one in self._waiting.take_excess():
            self.on_given_up(one)

    def _is_given_up(self, one: Waiting) -> bool:
        if one.clients():
            if one.publication.packet_id:
                self.on_given_up(one)
            return True
        promise = one.promise
        if promise is None or not promise.is_awaited or one.publication.message_id:
            return False
        self.on_given_up(one)
        promise.keep(ReasonCode.SERVER_BUSY)
        return True
