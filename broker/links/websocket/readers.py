"""All readers that follow from positions: what they share, and what those of `rowcast` are told together."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.core.history import History
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.gaps import GAP_FILTER
from broker.links.websocket.catching_up import Subscription

if TYPE_CHECKING:
    from broker.links.websocket.following import FollowingLink
    from broker.links.websocket.rowcast import RowcastLink


class Readers(Receiver):
    """What connections share; those of `rowcast` are told when a feed says that rows may be missing.

    Args:
        history: of this broker.
        later: asks to have `catch_up` of a connection called soon, in its turn.
        reread: asks to have `settle` of a connection called when what its subscription missed was read from its source.
        read_tables: asks to have `state_read` of a connection called when the tables of its subscription were read.
    """

    def __init__(
        self,
        history: History,
        later: Callable[[FollowingLink], None],
        reread: Callable[[FollowingLink, Subscription], None],
        read_tables: Callable[[FollowingLink, Subscription], None],
    ) -> None:
        super().__init__(plain=False)
        self.history = history
        self.later = later
        self.reread = reread
        self.read_tables = read_tables
        self.links: dict[RowcastLink, None] = {}

    def add(self, link: RowcastLink) -> None:
        """A connection that is told of gaps from now on."""
        if not self.links and not self.history.rings:
            link.engine.subscribe(self, GAP_FILTER, 0)
        self.links[link] = None

    def remove(self, link: RowcastLink) -> None:
        """One that is told of none any more."""
        if link in self.links:
            del self.links[link]
            if not self.links and not self.history.rings:
                link.engine.unsubscribe(self, GAP_FILTER)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        """A feed announces a gap."""
        try:
            said = json.loads(publication.payload)
            reason = str(said["reason"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        positions = self.history.positions
        if publication.sequence > 0:  # its place in the cluster's log
            before = positions.at(publication.sequence - 1)
        else:
            before = positions.here()
            positions.number += 1
        self.history.interrupt(f"rows may be missing: {reason}")
        for link in self.links:
            link.tell_gap(before, positions.here(), reason)
