"""The judge of the torture test finds every fault it is there for."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from torture.ledger import KILLED, STOPPED, Gap, Received, Run, Transaction, judge, read_log


def transactions() -> list[Transaction]:
    first = Transaction(1, [range(1, 3)], commit_began=1.0, commit_ended=2.0, committed=True)
    second = Transaction(2, [range(3, 4), range(5, 6)], [range(4, 5)], 3.0, 4.0, committed=True)
    undone = Transaction(3, [range(6, 7)])
    return [first, second, undone]


def run(*numbers: int, after: str = "") -> Run:
    owner = {1: 1, 2: 1, 3: 2, 4: 2, 5: 2, 6: 3}
    return Run(after, [Received(owner[number], number) for number in numbers])


@pytest.mark.parametrize(
    "runs",
    [
        [run(1, 2, 3, 5)],
        [run(1, 2), run(3, 5, after=STOPPED)],
        [run(1, 2), run(1, 2, 3, 5, after=KILLED)],
        [run(1, 2, 3), run(3, 5, after=KILLED)],
        [run(1, 2, 3, 5), run(1, 2, after=KILLED)],
        [run(1), run(after=KILLED), run(2, 3, 5, after=STOPPED)],
        [run(1, 2, 3), run(1, after=KILLED), run(2, 3, 5, after=STOPPED)],
    ],
)
def test_right_logs_are_accepted(runs: list[Run]) -> None:
    assert judge(transactions(), runs).faults == []


@pytest.mark.parametrize(
    ("runs", "fault"),
    [
        ([run(1, 2, 3)], "missing, as [5]"),
        ([run(1, 2)], "2 of 2 of transaction 2 missing"),
        ([run(1, 2, 3, 4, 5)], "had undone"),
        ([run(1, 2, 3, 5, 6)], "rolled back"),
        ([run(2, 1, 3, 5)], "another order"),
        ([run(3, 5, 1, 2)], "was committed before 2 and came after it"),
        ([run(1, 3, 2, 5)], "interleaved"),
        ([run(1, 2, 3, 5, 5)], "came again"),
        ([run(1, 2), run(1, 2, 3, 5, after=STOPPED)], "after an orderly stop"),
        ([run(1, 2, 3), run(1, 3, 5, after=KILLED)], "came again"),
        ([run(1, 2, 3, 5), run(1, 2, 5, after=KILLED)], "came again"),
        ([Run("", [Received(9, 1)]), run(1, 2, 3, 5)], "never written"),
        ([Run("", [Received(1, 1, False), *run(2, 3, 5).received])], "damaged"),
        ([Run("", run(1, 2, 3, 5).received, [Gap("slot lost", 4, 0.0)])], "gap was announced: slot lost"),
    ],
)
def test_each_fault_is_found(runs: list[Run], fault: str) -> None:
    assert fault in "\n".join(judge(transactions(), runs).faults)


FIRST, SECOND, LATER = run(1, 2).received, run(3, 5).received, [Received(4, 7)]


def judged(*parts: list[Received] | Gap, messages: tuple[int, ...] = ()) -> str:
    """What was received and announced, in this order, against `transactions` and one behind them."""
    third = Transaction(4, [range(7, 8)], commit_began=5.0, commit_ended=6.0, committed=True)
    all_of_them = [*transactions(), third]
    for place, one in enumerate(all_of_them):
        one.messages = set(messages) & set(one.all_numbers())
        one.places_before, one.places_after = {"wal": place * 100}, {"wal": place * 100 + 99}
    made = Run("")
    for part in parts:
        if isinstance(part, Gap):
            made.gaps.append(evolve(part, at=len(made.received)))
        else:
            made.received += part
    return "\n".join(judge(all_of_them, [made], may_lose=True).faults)


def gap(at_s: float = 9.0, **others: Any) -> Gap:
    return Gap("lost", 0, at_s, **others)


def test_what_people_lose_has_a_gap_in_its_place() -> None:
    assert not judged(FIRST, gap(), LATER)
    assert not judged(FIRST, SECOND, gap())
    assert not judged(FIRST, SECOND[:1], gap(), LATER)
    assert not judged(FIRST, gap(), SECOND, LATER)
    assert not judged(gap(4.5), FIRST, LATER)  # whoever loads again then has it
    assert "missing, as [3, 5]" in judged(FIRST, LATER)
    assert "missing, as [3, 5]" in judged(FIRST, gap(2.5), LATER)  # nothing was missing then
    assert "missing, as [3, 5]" in judged(FIRST, LATER, gap())


def test_gap_excuses_only_what_its_positions_have() -> None:
    assert not judged(FIRST, gap(start=99, end=180), LATER)
    assert "missing, as [3, 5]" in judged(FIRST, gap(start=200), LATER)
    assert "missing, as [3, 5]" in judged(FIRST, gap(start=0, end=99), LATER)
    assert "missing, as [1, 2]" in judged(SECOND, gap(start=100), LATER)


def test_messages_may_come_while_the_rows_of_a_table_are_not_captured() -> None:
    assert not judged(FIRST, LATER, gap(rows_only=True), messages=(7,))
    assert "missing, as [3, 5]" in judged(FIRST, LATER, messages=(7,))
    assert "missing, as [3, 5]" in judged(FIRST, LATER, gap(rows_only=True), messages=(3, 7))
    assert "missing, as [3, 5]" in judged(FIRST, gap(rows_only=True), LATER, messages=(3, 7))
    assert not judged(FIRST, gap(rows_only=True), gap(), LATER, messages=(3, 7))


def test_gap_of_a_run_that_was_killed_stands_where_the_next_goes_on() -> None:
    third = Transaction(4, [range(7, 8)], commit_began=5.0, commit_ended=6.0, committed=True)
    for at, is_right in (2, True), (3, False):
        again = Run(KILLED, [*FIRST, *LATER], [evolve(gap(), at=at)])
        verdict = judge([*transactions(), third], [Run("", FIRST), again], may_lose=True)
        assert (not verdict.faults) == is_right


def test_client_of_a_broker_may_be_told_again_but_only_after_its_end() -> None:
    again = [run(1, 2), run(2, 1, 2, 3, 5, after=STOPPED)]
    assert judge(transactions(), again, bystander=True).faults == []
    assert judge(transactions(), [run(1, 1, 2, 3, 5)], bystander=True).faults
    assert judge(transactions(), [run(1, 2), run(5, 3, after=KILLED)], bystander=True).faults


def test_stop_that_could_save_nothing_counts_as_a_kill() -> None:
    lines = ["# run \n", "1 2 ok\n", "# run stopped\n", "1 2 ok\n", "= saved\n", "# run stopped\n"]
    assert [run.after for run in read_log(lines)] == ["", KILLED, STOPPED]


def test_log_is_read_with_its_torn_line_left_out() -> None:
    body = '{"reason": "some gap", "from": "1/A", "to": "now", "tables": ["public.t"]}'
    told = f"! 7.5 wal {body}\n"
    lines = ["# run\n", "= live\n", "1 2 ok\n", told, "# run killed\n", "1 3 bad\n", "1 4"]
    assert read_log(lines) == [
        Run("", [Received(1, 2)], [Gap("some gap", 1, 7.5, "wal", (1 << 32) + 10, None, True)]),
        Run("killed", [Received(1, 3, False)]),
    ]


@pytest.mark.parametrize(("start", "is_fault"), [(None, False), (7, True)], ids=["unknown", "known"])
def test_a_stop_may_repeat_where_its_place_was_lost(start: int | None, is_fault: bool) -> None:
    again = Run(STOPPED, run(1, 2, 3, 5).received, [Gap("the schema was dropped", 0, 9.0, start=start)])
    verdict = judge(transactions(), [run(1, 2), again], may_lose=True)
    assert verdict.repeated == 2
    assert any("orderly stop" in fault for fault in verdict.faults) == is_fault
