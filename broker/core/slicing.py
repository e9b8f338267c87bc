"""Long work that a peer asked for, done a little at a time: nobody else waits for the whole of it.

What is done between two checkpoints is reckoned in steps, of some microseconds each.  Work that is not through waits
here, and whoever has tasks calls `turn` for as long as `waits` says; those that wait take turns.

Invariant: work in `_waiting` is not over, and stands there once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from broker.core.limits import STEPS_MAX
from broker.core.targets import RECEIVERS_STEP_SHIFT, Targets
from broker.core.trie import SubscriptionTrie

SLICE_STEPS: Final = 256
"""One's share of a turn while others wait."""

LEAST_STEPS: Final = 40
"""What everybody may do at once, however much others have done in this turn: a window of 20 PUBLISH packets, as most
clients have it, which would else leave in two parts."""

UNPACED_STEPS: Final = 1 << 60
"""Where nobody is to be spared: all at once."""

WIDE_SHARE: Final = 20
"""A message to very many, who take it in a send that carries more, counts for no more than this part of what its
publisher may do.  So ten to twenty of them go on together, and the send to each receiver takes longer than they do."""

_SEARCH_SHIFT: Final = 3
"""Eight levels of filters, looked at for a topic, take as long as a step."""


def searched_steps(looked_at: int) -> int:
    """What it counts for to have looked at so many levels and receivers; see `SubscriptionTrie.looked_at`."""
    return looked_at >> _SEARCH_SHIFT


@mypyc_attr(allow_interpreted_subclasses=True)
class Work:
    """Something that takes long."""

    def __init__(self) -> None:
        self.is_over = False

    def go_on(self, steps: int) -> int:
        """Do about so many steps, and set `is_over` if that was all; how many they were."""
        raise NotImplementedError


class Slicing:
    """All work that waits, of one engine.

    Attributes:
        on_waiting: told when something begins to wait; without it nobody paces, and all is done at once.
    """

    def __init__(self) -> None:
        self.on_waiting: Callable[[], None] | None = None
        self._waiting: deque[Work] = deque()
        self._steps_left = STEPS_MAX
        self._allowed = STEPS_MAX
        self._charged = 0

    def allowance(self) -> int:
        """How many steps a peer may take now; then `used`."""
        self._charged = 0
        if self.on_waiting is None:
            return UNPACED_STEPS
        self._allowed = self._steps_left if self._steps_left > LEAST_STEPS else LEAST_STEPS
        return self._allowed

    def used(self, steps: int) -> None:
        """So many were taken."""
        self._steps_left -= steps

    def charge(self, steps: int) -> None:
        """What a peer sent takes so many steps more than its packets."""
        self._charged += steps

    def receivers(self, trie: SubscriptionTrie, topic: bytes) -> Targets:
        """Who gets a topic; to look for them is charged."""
        targets = trie.cached(topic)
        if targets is None:
            misses = trie.misses
            targets = trie.match(topic)
            if trie.misses != misses:
                self.charge(searched_steps(trie.looked_at))
        return targets

    def charge_deliveries(self, targets: Targets, messages: int) -> None:
        """As `charge`, for so many messages that each receiver is handed by itself.

        For those who take them in a send that carries more, each counts for a share of what may be at most.
        """
        wide = targets.plain_steps()
        most = self._allowed // WIDE_SHARE
        self._charged += messages * (targets.steps() + (wide if wide < most else most))

    def charge_queued(self, count: int) -> None:
        """As `charge`, for a message that so many receivers were not sent now: no send takes longer than that did."""
        self._charged += count >> RECEIVERS_STEP_SHIFT

    def charged(self) -> int:
        """What was charged since the last call, for whoever has the allowance to take off."""
        steps = self._charged
        self._charged = 0
        return steps

    def begin(self, work: Work) -> None:
        """Do it, as far as this turn allows; the rest waits."""
        self.used(work.go_on(self.allowance()))
        if not work.is_over:
            self.wait(work)

    def wait(self, work: Work) -> None:
        """Go on with it when its turn comes."""
        self._waiting.append(work)
        on_waiting = self.on_waiting
        if on_waiting is not None and len(self._waiting) == 1:
            on_waiting()

    def waits(self) -> bool:
        """Whether there is something for `turn` to do."""
        return len(self._waiting) > 0

    def turn(self) -> None:
        """Do some of what waits."""
        self.renew()
        while self._waiting and self._steps_left > 0:
            work = self._waiting.popleft()
            self._charged = 0
            self._allowed = min(SLICE_STEPS, self._steps_left)
            self.used(max(1, work.go_on(self._allowed)))
            if not work.is_over:
                self._waiting.append(work)

    def renew(self) -> None:
        """A turn of the engine is over."""
        self._steps_left = STEPS_MAX
