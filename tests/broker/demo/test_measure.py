import math

from broker.demo.measure import ARRIVED_MAX, LOST_AFTER_S, Ledger, Rate, percentile


def ledger_expecting(*texts: str) -> Ledger:
    ledger = Ledger()
    for text in texts:
        ledger.expect("t", text)
    ledger.commit(at=10.0)
    return ledger


def test_message_received_once_is_neither_lost_nor_duplicated() -> None:
    ledger = ledger_expecting("a", "b")
    ledger.receive("t", "b", 10.25)
    ledger.receive("t", "a", 10.5)
    summary = ledger.summary(now=math.inf)
    assert summary.is_exact
    assert (summary.expected, summary.received) == (2, 2)
    assert (summary.p50_s, summary.p99_s) == (0.25, 0.5)


def test_second_copy_is_counted_as_a_duplicate() -> None:
    ledger = ledger_expecting("a")
    ledger.receive("t", "a", 10.1)
    ledger.receive("t", "a", 10.2)
    summary = ledger.summary(now=11.0)
    assert (summary.received, summary.duplicated, summary.unexpected) == (1, 1, 0)
    assert not summary.is_exact


def test_same_text_on_another_topic_is_another_message() -> None:
    ledger = ledger_expecting("a")
    ledger.receive("elsewhere", "a", 10.1)
    summary = ledger.summary(now=10.2)
    assert (summary.received, summary.unexpected) == (0, 1)


def test_message_that_does_not_come_is_lost_only_after_its_time() -> None:
    ledger = ledger_expecting("a")
    assert ledger.summary(now=10.0 + LOST_AFTER_S - 0.1).lost == 0
    assert ledger.summary(now=10.0 + LOST_AFTER_S).lost == 1
    ledger.receive("t", "a", 99.0)
    assert ledger.summary(now=100.0).lost == 0


def test_message_that_outruns_the_return_of_commit_counts_with_no_latency() -> None:
    ledger = Ledger()
    ledger.expect("t", "a")
    ledger.receive("t", "a", 9.9)
    ledger.commit(at=10.0)
    summary = ledger.summary(now=math.inf)
    assert summary.is_exact
    assert summary.p50_s == 0.0


def test_message_that_outruns_commit_twice_is_a_duplicate() -> None:
    ledger = Ledger()
    ledger.expect("t", "a")
    ledger.receive("t", "a", 9.8)
    ledger.receive("t", "a", 9.9)
    ledger.commit(at=10.0)
    ledger.receive("t", "a", 10.1)
    assert ledger.duplicated == 2


def test_nothing_is_due_before_commit() -> None:
    ledger = Ledger()
    ledger.expect("t", "a")
    assert (ledger.expected, ledger.awaited) == (0, 0)


def test_memory_of_arrivals_is_bounded() -> None:
    ledger = Ledger()
    for number in range(ARRIVED_MAX + 10):
        ledger.expect("t", str(number))
        ledger.commit(0.0)
        ledger.receive("t", str(number), 0.0)
    ledger.receive("t", "0", 0.0)
    ledger.receive("t", str(ARRIVED_MAX), 0.0)
    assert (ledger.unexpected, ledger.duplicated) == (1, 1)


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([], 50) is None
    assert percentile([1.0], 99) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
    assert percentile([float(n) for n in range(1, 101)], 50) == 50.0


def test_rate_looks_at_the_last_seconds_only() -> None:
    rate = Rate(window_s=2.0)
    assert rate.at(0.0, 0) == 0.0
    assert rate.at(1.0, 100) == 100.0
    for second in range(2, 6):
        last = rate.at(float(second), 100)
    assert last == 0.0
