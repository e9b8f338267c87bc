"""What is shown and raised of errors, and what a feed may still do when it is stopped."""

from __future__ import annotations

import psycopg
import pytest
import trio
import trio.testing

from broker.feed.driver import failures
from broker.feed.driver.failures import alone, first_line, is_about_values, is_being_stopped, last_words

LOST, REFUSED, BUG = psycopg.OperationalError("lost"), OSError("refused"), KeyError("bug")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (psycopg.OperationalError('role "x" is unknown\nHINT: make it\n'), 'role "x" is unknown'),
        (OSError("\n refused\nmore"), "refused"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("  "), "ValueError"),
    ],
)
def test_of_an_error_its_first_line_or_its_kind_is_shown(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_a_value_is_told_from_a_statement_by_what_refuses_it() -> None:
    """Those that only a server's diagnosis tells apart are in tests/broker/feed/listen/test_keyed_rows.py."""
    assert is_about_values(psycopg.errors.NumericValueOutOfRange())
    assert not is_about_values(psycopg.errors.SyntaxError())
    assert not is_about_values(LOST)


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("group", errors)


def test_a_database_s_errors_are_the_first_of_them_however_deep() -> None:
    assert alone(group(LOST)) is LOST
    assert alone(group(group(REFUSED, LOST), LOST)) is REFUSED


def test_whatever_else_happened_goes_before() -> None:
    rest = alone(group(LOST, group(BUG, REFUSED)))
    assert isinstance(rest, BaseExceptionGroup)
    assert rest.subgroup(KeyError) is not None
    assert rest.subgroup((psycopg.Error, OSError)) is None


async def test_a_task_knows_that_it_is_being_stopped() -> None:
    assert not is_being_stopped()
    with trio.move_on_after(100):
        await trio.lowlevel.checkpoint()
        assert not is_being_stopped(), "a deadline that has not come"
    with trio.CancelScope() as scope:
        scope.cancel()
        assert is_being_stopped()
        await trio.lowlevel.checkpoint()
    assert not is_being_stopped()


async def test_last_words_are_said_though_the_feed_is_stopped_and_may_fail() -> None:
    said = []
    with trio.CancelScope() as scope:
        scope.cancel()
        with last_words():
            await trio.lowlevel.checkpoint()
            said.append("place")
            raise LOST
        with last_words():
            raise REFUSED
    assert said == ["place"]
    with pytest.raises(KeyError), last_words():
        raise BUG


async def test_last_words_are_short(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    with last_words():
        await trio.sleep_forever()
    assert trio.current_time() - began == pytest.approx(failures.STOP_S_MAX)
