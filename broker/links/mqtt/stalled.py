"""A link whose peer asked for much at once: its turn has come to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.barrier import barrier
from broker.core.slicing import Work

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink


class Stalled(Work):
    """What one link still has to do of what came; behind the barrier, as what came itself."""

    def __init__(self, link: MqttLink) -> None:
        super().__init__()
        self._link = link

    def go_on(self, steps: int) -> int:
        link = self._link
        used = steps
        with barrier(link.engine.counters, link.peer, self._give_up):
            used = link.go_on(steps)
        self.is_over = link.stalled is not self
        return used

    def _give_up(self) -> None:
        self._link.close("disconnected: internal error.")
