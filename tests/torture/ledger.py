"""What was committed, and whether a log of what was received is right about it.  Pure.

The log holds one line per publication, in the order of receipt over all runs of the receiver, and marks where a
run began and how the one before had ended.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from attrs import define, field

STOPPED = "stopped"
KILLED = "killed"


@define
class Transaction:
    """What one writer's transaction did.

    Attributes:
        numbers: of the rows and messages that survive its savepoints, in the order of writing.
        messages: those of `numbers` that are messages of SQL functions, and no rows of the table.
        undone: of those that were rolled back to a savepoint.
        commit_began: monotonic seconds; infinite if it never tried to commit.
        commit_ended: when the writer learned that it had committed; infinite if it never did.
        places_before: for kinds of feeds, a position that the commit lies behind.
        places_after: one that it does not lie behind; absent if the writer never learned of it.
    """

    ident: int
    numbers: list[range] = field(factory=list)
    undone: list[range] = field(factory=list)
    commit_began: float = math.inf
    commit_ended: float = math.inf
    committed: bool = False
    messages: set[int] = field(factory=set)
    places_before: dict[str, int] = field(factory=dict)
    places_after: dict[str, int] = field(factory=dict)

    def count(self) -> int:
        return sum(map(len, self.numbers))

    def all_numbers(self) -> Iterator[int]:
        for some in self.numbers:
            yield from some


@define
class Received:
    """One publication: its transaction, its number, and whether its body was whole."""

    transaction: int
    number: int
    whole: bool = True


@define
class Gap:
    """Rows may be missing that were committed between two positions, as it was announced.

    Attributes:
        reason: in words.
        at: behind how many publications of its run.
        at_s: at which monotonic second.
        kind: of the feed, which says what positions are.
        start: from where on; None if unknown.
        end: up to where; None: to where the server was then.
        rows_only: it is about rows of the table, not about messages of SQL functions.
    """

    reason: str
    at: int
    at_s: float
    kind: str = "wal"
    start: int | None = None
    end: int | None = None
    rows_only: bool = False

    def has(self, lost: Transaction) -> bool:
        """Whether what this transaction committed may lie in it, by time and by position."""
        if self.at_s < lost.commit_began:
            return False
        before, after = lost.places_before.get(self.kind, 0), lost.places_after.get(self.kind, math.inf)
        is_behind_start = self.start is None or after >= self.start
        return is_behind_start and (self.end is None or before <= self.end)


@define
class Run:
    """What one run of the receiver got, and how the run before it had ended ("" for the first)."""

    after: str
    received: list[Received] = field(factory=list)
    gaps: list[Gap] = field(factory=list)


@define
class Verdict:
    """All that is wrong, and the figures of a run."""

    faults: list[str] = field(factory=list)
    transactions: int = 0
    publications: int = 0
    repeated: int = 0
    runs: int = 0
    gaps: int = 0
    lost: int = 0

    def fault(self, text: str) -> None:
        if len(self.faults) < 20:
            self.faults.append(text)


def read_log(lines: Iterable[str]) -> list[Run]:
    """Lines `# run AFTER`, `= live`, `= saved`, `! SECONDS KIND GAP`, `TRANSACTION NUMBER ok|bad`.

    A torn last one does not count.
    """
    runs: list[Run] = []
    saved = False
    for line in lines:
        if not line.endswith("\n"):
            continue
        words = line.split()
        if words[0] == "#":
            after = words[2] if len(words) > 2 else ""
            # A stop while the database is away can't save anything: it is as good as a kill.
            runs.append(Run(KILLED if after == STOPPED and not saved else after))
            saved = False
        elif words[0] == "!":
            runs[-1].gaps.append(_gap(len(runs[-1].received), line))
        elif words[0] == "=":
            saved = words[1] == "saved"
        else:
            runs[-1].received.append(Received(int(words[0]), int(words[1]), words[2] == "ok"))
    return runs


def _gap(at: int, line: str) -> Gap:
    _, at_s, kind, text = line.split(maxsplit=3)
    body = json.loads(text)
    start, end = (_position(body[name]) for name in ("from", "to"))
    return Gap(body["reason"], at, float(at_s), kind, start, end, body.get("tables") is not None)


def _position(text: str | None) -> int | None:
    """An LSN as bytes, a number of the outbox, None for the present and for what is unknown."""
    if text is None or text == "now":
        return None
    high, slash, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16) if slash else int(text)


def judge(
    transactions: Iterable[Transaction], runs: list[Run], bystander: bool = False, may_lose: bool = False
) -> Verdict:
    """Every committed row once, in commit order, none of the others; repetition only after a kill, of the end.

    Args:
        bystander: the runs are connections of a client to a broker that was stopped and killed.  Then a new
            connection may repeat anything: what was in flight, what was queued, what the feed repeats.
        may_lose: people have done what costs rows.  Then a gap has to be announced after a row that is missing was
            committed, and before the next row of its table that was committed after it; before the next publication
            if a message is missing.  By its positions the gap must have what is missing.
    """
    verdict = Verdict(runs=len(runs))
    by_ident = {transaction.ident: transaction for transaction in transactions}
    for run in runs:
        verdict.gaps += len(run.gaps)
        for gap in () if may_lose else run.gaps:
            verdict.fault(f"a gap was announced: {gap.reason}")
    sequence = _first_times(runs, verdict) if bystander else _without_repetition(runs, verdict)
    announced = Announced(by_ident, runs, sequence) if may_lose else None
    _check_contents(by_ident, sequence, verdict, announced)
    _check_order(by_ident, sequence, verdict)
    return verdict


def _without_repetition(runs: list[Run], verdict: Verdict) -> list[Received]:
    """All runs as one sequence.  What a run repeats must be the end of what came before it, after a kill."""
    sequence: list[Received] = []
    places: dict[tuple[int, int], int] = {}
    behind = False
    for run in runs:
        repeated = _repeated_at_start(run, sequence, places)
        verdict.repeated += repeated
        # Behind a gap without a beginning nobody knows the place, so the slot's own is gone on from.
        is_known = not any(gap.at == 0 and gap.start is None for gap in run.gaps)
        if repeated and run.after == STOPPED and not behind and is_known:
            verdict.fault(f"{repeated} publications repeated after an orderly stop")
        # A run that was ended before it came to anything new leaves the next one where it was itself.
        behind = len(run.received) == repeated and (behind or run.after == KILLED)
        again: list[Received] = []
        for received in run.received[repeated:]:
            if (received.transaction, received.number) in places:
                again.append(received)
                continue
            places[received.transaction, received.number] = len(sequence)
            sequence.append(received)
        if again:
            first = f"{again[0].number} of transaction {again[0].transaction}"
            verdict.fault(f"{len(again)} came again in run {runs.index(run) + 1}, the first {first}")
    return sequence


def _first_times(runs: list[Run], verdict: Verdict) -> list[Received]:
    """All runs as one sequence without what came before; the first run may repeat nothing."""
    sequence: list[Received] = []
    places: set[tuple[int, int]] = set()
    for run in runs:
        repeated = 0
        for received in run.received:
            place = (received.transaction, received.number)
            if place in places:
                repeated += 1
            else:
                places.add(place)
                sequence.append(received)
        verdict.repeated += repeated
        if repeated and not run.after:
            verdict.fault(f"{repeated} publications repeated without a reason")
    return sequence


def _repeated_at_start(run: Run, sequence: list[Received], places: dict[tuple[int, int], int]) -> int:
    if not run.received:
        return 0
    start = places.get((run.received[0].transaction, run.received[0].number))
    if start is None:
        return 0
    tail = sequence[start:]
    count = min(len(tail), len(run.received))
    if run.received[:count] != tail[:count]:
        return 0  # then each is reported as having come again
    return count


class Announced:
    """Where in what was received gaps were announced, and when what stands there was committed."""

    def __init__(self, by_ident: dict[int, Transaction], runs: list[Run], sequence: list[Received]) -> None:
        places = {(one.transaction, one.number): place for place, one in enumerate(sequence)}
        self._gaps = [(_next_place(run, gap.at, places, runs), gap) for run in runs for gap in run.gaps]
        known = [(by_ident.get(one.transaction), one.number) for one in sequence]
        # Up to each place the latest begin of a commit, so that the first behind a moment can be searched for.
        self._latest = _latest(known, rows_only=False)
        self._latest_row = _latest(known, rows_only=True)

    def covers(self, lost: Transaction, missing: set[int]) -> bool:
        """Whether whoever loads again at a gap has it, and is told before what was committed after it comes."""
        rows, messages = missing - lost.messages, missing & lost.messages
        return (not rows or self._covers(lost, True)) and (not messages or self._covers(lost, False))

    def _covers(self, lost: Transaction, is_row: bool) -> bool:
        last = bisect_right(self._latest_row if is_row else self._latest, lost.commit_ended)
        return any(
            place <= last and gap.has(lost) and (is_row or not gap.rows_only) for place, gap in self._gaps
        )


def _latest(known: list[tuple[Transaction | None, int]], rows_only: bool) -> list[float]:
    counts = (
        -math.inf if one is None or (rows_only and number in one.messages) else one.commit_began
        for one, number in known
    )
    return list(accumulate(counts, max))


def _next_place(run: Run, at: int, places: dict[tuple[int, int], int], runs: list[Run]) -> int:
    """The place of the first publication behind the gap that had not come before it."""
    highest = -1
    for other in runs[: runs.index(run)]:
        highest = max([highest, *(places[one.transaction, one.number] for one in other.received)])
    return max([highest, *(places[one.transaction, one.number] for one in run.received[:at])]) + 1


def _check_contents(
    by_ident: dict[int, Transaction], sequence: list[Received], verdict: Verdict, announced: Announced | None
) -> None:
    got: dict[int, list[int]] = {}
    for received in sequence:
        got.setdefault(received.transaction, []).append(received.number)
        if not received.whole:
            verdict.fault(f"the body of {received.number} is damaged")
    for transaction in by_ident.values():
        numbers = got.pop(transaction.ident, [])
        if not transaction.committed:
            if numbers:
                verdict.fault(
                    f"{len(numbers)} of transaction {transaction.ident}, which was rolled back, came"
                )
            continue
        verdict.transactions += 1
        verdict.publications += transaction.count()
        wanted = list(transaction.all_numbers())
        if numbers == wanted:
            continue
        came = set(numbers)
        missing = len(wanted) - len(came & set(wanted))
        if announced is not None and missing and numbers == [one for one in wanted if one in came]:
            verdict.lost += missing
            if announced.covers(transaction, set(wanted) - came):
                continue
        _describe_difference(transaction, numbers, verdict)
    for ident in got:
        verdict.fault(f"transaction {ident} was never written")


def _describe_difference(transaction: Transaction, numbers: list[int], verdict: Verdict) -> None:
    wanted = list(transaction.all_numbers())
    missing = sorted(set(wanted) - set(numbers))
    extra = sorted(set(numbers) - set(wanted))
    if missing:
        verdict.fault(
            f"{len(missing)} of {len(wanted)} of transaction {transaction.ident} missing, as {missing[:3]}"
        )
    if extra:
        verdict.fault(f"{len(extra)} that transaction {transaction.ident} had undone came, as {extra[:3]}")
    if not missing and not extra:
        verdict.fault(f"transaction {transaction.ident} came in another order than it was written")


def _check_order(by_ident: dict[int, Transaction], sequence: list[Received], verdict: Verdict) -> None:
    """Whole transactions, not interleaved; none after one that began to commit when it was committed already."""
    order: list[int] = []
    for received in sequence:
        if not order or order[-1] != received.transaction:
            order.append(received.transaction)
    if len(set(order)) != len(order):
        verdict.fault("transactions came interleaved")
    latest, latest_ident = -math.inf, -1
    for ident in order:
        transaction = by_ident.get(ident)
        if transaction is None:
            continue
        if transaction.commit_ended < latest:
            verdict.fault(f"transaction {ident} was committed before {latest_ident} and came after it")
        if transaction.commit_began > latest and transaction.commit_began != math.inf:
            latest, latest_ident = transaction.commit_began, ident
