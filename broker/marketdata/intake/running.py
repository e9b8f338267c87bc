"""How one source's rows come, for as long as the configuration has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from broker.config.market import Intake
from broker.config.reload_market import is_same_place
from broker.feed.supervise import keep_trying
from broker.marketdata.intake.published import Published
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.intake.sockets import serve_tcp, serve_udp
from broker.marketdata.market import Market

if TYPE_CHECKING:
    from broker.marketdata.intake.polled import PolledQuery


class RunningIntake:
    """One source's rows, coming: how they do may become another by a reload, while the rows go on.

    Args:
        rows: takes what comes.
        ports: gets the port that is open.
    """

    def __init__(self, rows: IntakeRows, market: Market, ports: list[int]) -> None:
        self.rows = rows
        self._market = market
        self._ports = ports
        self._query: PolledQuery | None = None
        self._is_ended = False
        self._serving = trio.CancelScope()

    def adopt(self, intake: Intake, new_taps: set[str]) -> None:
        """Go on as another configuration says.  Within a turn.

        Args:
            new_taps: keys of those that have calculators which know nothing yet.
        """
        before = self.rows.intake
        self.rows.adopt(intake)
        if not is_same_place(before, intake):
            self._serving.cancel()
        elif self._query is not None:
            self._query.tell(new_taps)
            asked = (intake.query, intake.key, intake.every_s, intake.feed.dsn)
            if asked != (before.query, before.key, before.every_s, before.feed.dsn):
                self._query.adopt(intake.feed)

    def end(self) -> None:
        """The source is no more."""
        self._is_ended = True
        self._serving.cancel()

    async def run(self) -> None:
        """Take rows until ended or cancelled."""
        while not self._is_ended:
            with trio.CancelScope() as self._serving:
                self._ports.clear()
                await self._serve()

    async def _serve(self) -> None:
        rows, market = self.rows, self._market
        kind = rows.intake.kind
        self._query = None
        if kind == "tcp":
            await serve_tcp(rows, market, self._ports)
        elif kind == "udp":
            await serve_udp(rows, market, self._ports)
        elif kind == "mqtt":
            published = Published(rows, market)
            published.open()
            try:
                await trio.sleep_forever()
            finally:
                published.close()
        else:
            from broker.marketdata.intake.polled import PolledQuery

            self._query = PolledQuery(rows, market, rows.status)
            await keep_trying(self._query, rows.status)
