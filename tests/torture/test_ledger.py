"""The judge of the torture test finds every fault it is there for."""

from __future__ import annotations

import pytest
from torture.ledger import KILLED, STOPPED, Received, Run, Transaction, judge, read_log


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
        ([Run("", run(1, 2, 3, 5).received, ["slot lost"])], "gap was announced: slot lost"),
    ],
)
def test_each_fault_is_found(runs: list[Run], fault: str) -> None:
    assert fault in "\n".join(judge(transactions(), runs).faults)


def test_what_people_lose_has_a_gap_in_its_place() -> None:
    third = Transaction(4, [range(7, 8)], commit_began=5.0, commit_ended=6.0, committed=True)
    all_of_them = [*transactions(), third]
    later = [Received(4, 7)]

    def faults(*parts: list[Received] | str) -> list[str]:
        made = Run("")
        for part in parts:
            if isinstance(part, str):
                made.gaps.append(part)
                made.gaps_at.append((len(made.received), float(part)))
            else:
                made.received += part
        return judge(all_of_them, [made], may_lose=True).faults

    first, second = run(1, 2).received, run(3, 5).received
    assert faults(first, "0", later) == []
    assert faults(first, second, "0") == []
    assert faults(first, second[:1], "0", later) == []
    assert faults(first, "0", second, later) == []
    assert faults("4.5", first, later) == []  # whoever loads again then has it
    assert "missing, as [3, 5]" in faults(first, later)[0]
    assert "missing, as [3, 5]" in faults("0", first, later)[0]
    assert "missing, as [3, 5]" in faults(first, later, "0")[0]
    assert (
        judge(
            all_of_them, [Run("", first), Run(KILLED, [*first, *later], ["gap"], [(2, 0.0)])], may_lose=True
        ).faults
        == []
    )
    assert judge(
        all_of_them, [Run("", first), Run(KILLED, [*first, *later], ["gap"], [(3, 0.0)])], may_lose=True
    ).faults


def test_client_of_a_broker_may_be_told_again_but_only_after_its_end() -> None:
    again = [run(1, 2), run(2, 1, 2, 3, 5, after=STOPPED)]
    assert judge(transactions(), again, bystander=True).faults == []
    assert judge(transactions(), [run(1, 1, 2, 3, 5)], bystander=True).faults
    assert judge(transactions(), [run(1, 2), run(5, 3, after=KILLED)], bystander=True).faults


def test_stop_that_could_save_nothing_counts_as_a_kill() -> None:
    lines = ["# run \n", "1 2 ok\n", "# run stopped\n", "1 2 ok\n", "= saved\n", "# run stopped\n"]
    assert [run.after for run in read_log(lines)] == ["", KILLED, STOPPED]


def test_log_is_read_with_its_torn_line_left_out() -> None:
    lines = ["# run\n", "= live\n", "1 2 ok\n", "! 7.5 some gap\n", "# run killed\n", "1 3 bad\n", "1 4"]
    assert read_log(lines) == [
        Run("", [Received(1, 2)], ["some gap"], [(1, 7.5)]),
        Run("killed", [Received(1, 3, False)]),
    ]
