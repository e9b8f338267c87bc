"""A receiver that knows nothing of runs gets each publication of one by itself."""

from __future__ import annotations

from broker.core.publication import Publication
from broker.core.receiver import Receiver


class Heard(Receiver):
    def __init__(self) -> None:
        super().__init__(plain=False)
        self.came: list[tuple[Publication, int, bool]] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append((publication, granted, retained))


def test_a_run_is_delivered_one_by_one_in_its_order_and_live() -> None:
    heard = Heard()
    run = [Publication(b"t", b"%d" % number) for number in range(3)]
    heard.deliver_run(run, 1)
    assert heard.came == [(publication, 1, False) for publication in run]


def test_a_receiver_may_read_what_nobody_forbids() -> None:
    assert Heard().may_read(b"any/topic")
