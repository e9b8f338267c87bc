"""The memory of a route with `once_per`: which keys were published, and when.  Pure; compiled where possible."""

from __future__ import annotations

from collections import deque

Key = object
"""What `key_of` or `key_of_texts` made; `object`, so that it may be text."""


def key_of(values: tuple[object, ...]) -> Key:
    """A row's key, by its columns: one text where possible, which takes a third of a tuple's memory and time.

    As many columns each time and no NUL in them: so no two keys are one.
    """
    texts = [value for value in values if type(value) is str and "\0" not in value]
    return "\0".join(texts) if len(texts) == len(values) else values


def key_of_texts(values: list[bytes]) -> Key:
    """As `key_of`, for UTF-8 without NUL."""
    return b"\0".join(values).decode()


class Once:
    """Keys seen lately.

    Args:
        for_s: how long a key is remembered.
        keys_max: kept at most; beyond it the oldest go before their time.
    """

    def __init__(self, for_s: float, keys_max: int) -> None:
        self._for_s = for_s
        self._keys_max = keys_max
        self._seen: dict[Key, float] = {}
        # Beside the dict, which takes long to find its oldest key when many before it were deleted.
        self._order: deque[Key] = deque()
        self._times: deque[float] = deque()

    def is_repeated(self, key: Key, now: float) -> bool:
        """Whether it was remembered less than `for_s` ago; `now` in monotonic seconds.

        Raises:
            TypeError: it holds an array or an object.
        """
        seen_at = self._seen.get(key)
        return seen_at is not None and now - seen_at < self._for_s

    def remember(self, key: Key, now: float) -> None:
        """The key has been seen now; forget keys that are too old."""
        self._seen[key] = now
        self._order.append(key)
        self._times.append(now)
        for _ in range(2):  # one comes, up to two go: so it shrinks again after a burst
            if not self._times:
                return
            seen_at = self._times[0]
            if len(self._times) <= self._keys_max and now - seen_at < self._for_s:
                return
            self._times.popleft()
            oldest = self._order.popleft()
            if self._seen.get(oldest) == seen_at:  # not remembered again since
                del self._seen[oldest]
