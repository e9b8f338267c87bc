"""What is tried again, after which pauses, and what is not."""

from __future__ import annotations

import psycopg
import pytest
import trio
import trio.testing

from broker.config.feeds import FeedConfig
from broker.feed.status import FeedStatus
from broker.feed.supervise import PAUSE_S_MAX, keep_trying


class Failing:
    """A feed whose attempts end with the given errors; `None` is an attempt that was live before it failed."""

    def __init__(self, status: FeedStatus, *errors: BaseException | None) -> None:
        self.status = status
        self.started_at: list[float] = []
        self._errors = list(errors)

    def adopt(self, config: FeedConfig) -> bool:
        raise AssertionError("nobody asked for it")

    async def attempt(self) -> None:
        self.started_at.append(trio.current_time())
        if not self._errors:
            await trio.sleep_forever()
        error = self._errors.pop(0)
        if error is None:
            self.status.enter("live")
        raise error or psycopg.OperationalError("connection lost")


async def pauses(*errors: BaseException | None) -> list[float]:
    status = FeedStatus("test")
    feed = Failing(status, *errors)
    with trio.move_on_after(3600):
        await keep_trying(feed, status)
    return [later - earlier for earlier, later in zip(feed.started_at, feed.started_at[1:], strict=False)]


async def test_pauses_double_up_to_a_limit_and_vary(autojump_clock: trio.testing.MockClock) -> None:
    lost = psycopg.OperationalError("no")
    for pause, most in zip(await pauses(*[lost] * 8), [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert most / 2 <= pause <= most <= PAUSE_S_MAX
    assert len({await_pause for _ in range(5) for await_pause in await pauses(lost)}) > 1


async def test_a_connection_that_was_live_begins_with_short_pauses_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lost = OSError("no")
    assert (await pauses(lost, lost, lost, lost, None))[-1] <= 1


async def test_the_status_says_what_the_matter_is(autojump_clock: trio.testing.MockClock) -> None:
    status = FeedStatus("test")
    with trio.move_on_after(0.1):
        await keep_trying(Failing(status, psycopg.OperationalError("refused\n\thint")), status)
    assert (status.state, status.problem) == ("waiting", "refused")


async def test_a_bug_is_not_tried_again() -> None:
    status = FeedStatus("test")
    with pytest.raises(ZeroDivisionError):
        await keep_trying(Failing(status, ZeroDivisionError()), status)
