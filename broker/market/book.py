"""One symbol's order book, as published: levels by price, what changed since any recent message.  Pure; compiled.

Changes are staged and applied when they are published, so that the book is at any time what its readers have.  A
price is a whole number in units of the book's finest price; one side's keys rise towards its best price.

Invariant: a price keeps its text for as long as anybody could still be told of a change to it by that text.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final
from zlib import crc32

from broker.market.levels import Level
from broker.market.numbers import BadValue, Number, scaled
from broker.market.snapshots import Differences
from broker.market.stream import Stream

NO_FLOOR: Final = -(10**90)
"""Lower than any key: everything is published."""

CHECKSUM_LEVELS: Final = 25

GONE: Final = b""
"""Stands for a level that there isn't."""


class Side:
    """Bids (`sign` 1) or asks (-1): levels by key, which is sign × price in the book's unit.

    A level is its JSON text, `["PRICE","SIZE"]`.
    """

    def __init__(self, sign: int, depth: int) -> None:
        self.sign = sign
        self.depth = depth
        self.keys: list[int] = []
        self.levels: dict[int, bytes] = {}
        self.staged: dict[int, bytes] = {}
        self.gone: dict[int, bytes] = {}
        """Texts of prices that were removed not long ago."""

    def stage(self, key: int, price: str, size: str) -> None:
        """This size from the next message on; "" removes."""
        if not size:
            self.staged[key] = GONE
            return
        known = self.staged.get(key, GONE) or self.levels.get(key, GONE)
        text = _price_of(known) if known else self.gone.get(key, GONE) or price.encode()
        self.staged[key] = b'["' + text + b'","' + size.encode() + b'"]'

    def check(self, change: Differences, scale: int) -> list[int]:
        """The keys that a new snapshot has no more.  Raises: BadValue, if a price comes twice in it."""
        sign = self.sign
        gone = [sign * scaled(price, scale) for price in change.gone]
        if not change.added:
            return gone
        left = set(gone)
        added: set[int] = set()
        for price, _ in change.added:
            key = sign * scaled(price, scale)
            if key in added or (key not in left and self.is_live(key)):
                raise BadValue("duplicate_level")
            added.add(key)
        return gone

    def is_live(self, key: int) -> bool:
        """Whether there is such a level after the staged changes."""
        level = self.staged.get(key)
        return bool(self.levels.get(key, GONE) if level is None else level)

    def stage_removal_of_all_but(self, kept: set[int]) -> None:
        """A whole book is here: what it does not have goes with the next message."""
        for key in self.levels:
            if key not in kept:
                self.staged[key] = GONE
        for key, level in list(self.staged.items()):
            if level and key not in kept:
                self.staged[key] = GONE

    def stage_best_only(self, count: int) -> None:
        """Levels behind the best so many go, as they do at the source."""
        staged, levels = self.staged, self.levels
        live = len(self.keys)
        for key, level in staged.items():
            if level:
                live += key not in levels
            else:
                live -= key in levels
        if live <= count:
            return
        left = [key for key in self.keys if staged.get(key, b"-")]
        left += [key for key, level in staged.items() if level and key not in levels]
        left.sort()
        for key in left[: live - count]:
            staged[key] = GONE

    def best_staged(self) -> int:
        """The best key after the staged changes; NO_FLOOR if the side would be empty."""
        best = NO_FLOOR
        staged = self.staged
        for i in range(len(self.keys) - 1, -1, -1):
            key = self.keys[i]
            if key not in staged or staged[key]:
                best = key
                break
        for key, level in staged.items():
            if level and key > best:
                best = key
        return best

    def floor(self) -> int:
        """The last key that is published."""
        i = len(self.keys) - self.depth
        return self.keys[i] if i >= 0 else NO_FLOOR

    def apply(self) -> list[int]:
        """Take over what was staged; which keys of the published depth this adds, changes or removes."""
        keys, levels, gone = self.keys, self.levels, self.gone
        floor = self.floor()
        touched = self.staged
        before: list[bytes] = []
        for key, level in touched.items():
            old = levels.get(key, GONE)
            before.append(old if key >= floor else GONE)
            if level:
                levels[key] = level
                if not old:
                    insort(keys, key)
                    if gone:
                        gone.pop(key, None)
            elif old:
                del levels[key]
                del keys[bisect_left(keys, key)]
                gone[key] = _price_of(old)
        after = self.floor()
        changed: list[int] = []
        for number, (key, level) in enumerate(touched.items()):
            now = level if key >= after else GONE
            if now != before[number]:
                changed.append(key)
        if after != floor:
            low, high = (after, floor) if after < floor else (floor, after)
            for i in range(bisect_left(keys, low), bisect_left(keys, high)):
                if keys[i] not in touched:  # it enters the published depth, or leaves it
                    changed.append(keys[i])
        self.staged = {}
        return changed

    def shown(self, key: int, floor: int) -> bytes:
        """The level as a change tells of it."""
        level = self.levels.get(key, GONE)
        if level:
            return level if key >= floor else b'["' + _price_of(level) + b'","0"]'
        return b'["' + self.gone.get(key, b"0") + b'","0"]'

    def top(self, count: int) -> list[bytes]:
        """The best levels, best first."""
        found: list[bytes] = []
        keys, levels = self.keys, self.levels
        for i in range(len(keys) - 1, max(len(keys) - count, 0) - 1, -1):
            found.append(levels[keys[i]])
        return found

    def multiply(self, factor: int) -> None:
        """The book's unit has become finer."""
        self.keys = [key * factor for key in self.keys]
        self.levels = {key * factor: level for key, level in self.levels.items()}
        self.staged = {key * factor: level for key, level in self.staged.items()}
        self.gone = {key * factor: text for key, text in self.gone.items()}


def _price_of(level: bytes) -> bytes:
    return level[2 : level.index(b'"', 2)]


class Change:
    """What one message changed."""

    def __init__(self, seq: int, bids: list[int], asks: list[int]) -> None:
        self.seq = seq
        self.bids = bids
        self.asks = asks


class Book(Stream):
    """One symbol's book.

    Args:
        names, seq: as `Stream`.
        depth: levels a side that are published.
        checksum: whether messages carry one.
    """

    def __init__(self, names: dict[str, str], seq: int, depth: int, checksum: bool) -> None:
        super().__init__(names, seq)
        self.checksum = checksum
        self.scale = 0
        self.bids = Side(1, depth)
        self.asks = Side(-1, depth)
        self.time_ms = 0
        self.is_fresh = True
        """Nothing has been published, or what was must be told anew."""
        self.recent: deque[Change] = deque()
        self.known_since = seq
        """Changes behind this message can be told; older ones have been forgotten."""
        self.remembered = 0
        self.remembered_max = max(64, depth // 4)

    def key_of(self, price: Number) -> int:
        """A price as a whole number at the scale of the book, which becomes finer if this price is."""
        if price.scale > self.scale:
            factor = int(10 ** (price.scale - self.scale))
            self.scale = price.scale
            self.bids.multiply(factor)
            self.asks.multiply(factor)
            for change in self.recent:
                change.bids = [key * factor for key in change.bids]
                change.asks = [key * factor for key in change.asks]
        return scaled(price, self.scale)

    def stage(self, is_bid: bool, price: Number, size: Number) -> None:
        """This size at this price from the next message on; 0 removes."""
        key = self.key_of(price)
        text = size.text if size.units else ""
        if is_bid:
            self.bids.stage(key, price.text, text)
        else:
            self.asks.stage(-key, price.text, text)

    def stage_differences(self, bids: Differences, asks: Differences) -> None:
        """What has changed from one snapshot to the next.  Raises: BadValue, and then nothing has changed."""
        for change in (bids, asks):
            for price, _ in change.added:
                self.key_of(price)  # so that the unit is as fine as the finest price
        gone_bids = self.bids.check(bids, self.scale)
        gone_asks = self.asks.check(asks, self.scale)
        for key in gone_bids:
            self.bids.staged[key] = GONE
        for key in gone_asks:
            self.asks.staged[key] = GONE
        for levels in (bids.changed, bids.added):
            for price, size in levels:
                self.stage(True, price, size)
        for levels in (asks.changed, asks.added):
            for price, size in levels:
                self.stage(False, price, size)

    def check_distinct(self, levels: list[Level]) -> None:
        """Raises: BadValue, if a price is there twice, in whatever spelling."""
        for price, _ in levels:
            self.key_of(price)
        if len({scaled(price, self.scale) for price, _ in levels}) != len(levels):
            raise BadValue("duplicate_level")

    def stage_whole(self, bids: list[Level], asks: list[Level]) -> None:
        """These levels from the next message on, and no others; `check_distinct` has seen them."""
        self.bids.stage_removal_of_all_but({scaled(price, self.scale) for price, _ in bids})
        self.asks.stage_removal_of_all_but({-scaled(price, self.scale) for price, _ in asks})
        for price, size in bids:
            self.stage(True, price, size)
        for price, size in asks:
            self.stage(False, price, size)

    def has_staged(self) -> bool:
        """Whether anything has changed since the last message."""
        return bool(self.bids.staged) or bool(self.asks.staged)

    def is_crossed(self) -> bool:
        """Whether the staged changes would leave a bid that is not below every ask."""
        bid = self.bids.best_staged()
        ask = self.asks.best_staged()
        return bid != NO_FLOOR and ask != NO_FLOOR and bid + ask >= 0

    def apply(self, time_ms: int) -> bytes:
        """Take over what was staged; the message that says so, b"" if nothing of the published depth changed."""
        self.time_ms = time_ms
        bids = self.bids.apply()
        asks = self.asks.apply()
        if self.is_fresh:
            self.is_fresh = False
            self.forget()
            self.advance()
            self.known_since = self.seq
            return self.state()[0]
        if not bids and not asks:
            return b""
        self.advance()
        self.remember(bids, asks)
        return self.update(self.prev, bids, asks)

    def remember(self, bids: list[int], asks: list[int]) -> None:
        """Keep which prices changed, for those who merge; forget the oldest where there are too many."""
        count = len(bids) + len(asks)
        self.recent.append(Change(self.seq, bids, asks))
        self.remembered += count
        while self.remembered > self.remembered_max:
            oldest = self.recent.popleft()
            self.remembered -= len(oldest.bids) + len(oldest.asks)
            self.known_since = oldest.seq
        if len(self.bids.gone) + len(self.asks.gone) > 2 * self.remembered_max + count:
            self._forget_texts()

    def forget(self) -> None:
        """Nobody will be told of changes so far."""
        self.recent.clear()
        self.remembered = 0
        self.known_since = self.seq
        self.bids.gone = {}
        self.asks.gone = {}

    def _forget_texts(self) -> None:
        bids: set[int] = set()
        asks: set[int] = set()
        for change in self.recent:
            bids.update(change.bids)
            asks.update(change.asks)
        self.bids.gone = {key: text for key, text in self.bids.gone.items() if key in bids}
        self.asks.gone = {key: text for key, text in self.asks.gone.items() if key in asks}

    def update(self, prev: int, bids: list[int], asks: list[int]) -> bytes:
        """The body that says how these levels are now, to who has the state `prev`."""
        floor = self.bids.floor()
        bid_texts = [self.bids.shown(key, floor) for key in sorted(bids, reverse=True)]
        floor = self.asks.floor()
        ask_texts = [self.asks.shown(key, floor) for key in sorted(asks, reverse=True)]
        return b'{"type":"update","prev":%d,' % prev + self._rest(bid_texts, ask_texts)

    def state(self) -> list[bytes]:
        depth = self.bids.depth
        return [b'{"type":"snapshot",' + self._rest(self.bids.top(depth), self.asks.top(depth))]

    def since(self, seq: int) -> list[bytes]:
        if seq < self.known_since or seq > self.seq:
            return self.state()
        bids: set[int] = set()
        asks: set[int] = set()
        for i in range(len(self.recent) - 1, -1, -1):
            change = self.recent[i]
            if change.seq <= seq:
                break
            bids.update(change.bids)
            asks.update(change.asks)
        return [self.update(seq, list(bids), list(asks))]

    def _rest(self, bids: list[bytes], asks: list[bytes]) -> bytes:
        text = b'"seq":%d,"bids":[%b],"asks":[%b],"ts":%d' % (
            self.seq,
            b",".join(bids),
            b",".join(asks),
            self.time_ms,
        )
        if self.checksum:
            return text + b',"checksum":%d}' % self.crc()
        return text + b"}"

    def crc(self) -> int:
        """CRC-32 of `PRICE:SIZE` of the best bid, the best ask, the second bid, and so on, with colons between."""
        count = min(CHECKSUM_LEVELS, self.bids.depth)
        bids = self.bids.top(count)
        asks = self.asks.top(count)
        parts: list[bytes] = []
        for i in range(max(len(bids), len(asks))):
            if i < len(bids):
                parts.append(bids[i][2:-2].replace(b'","', b":"))
            if i < len(asks):
                parts.append(asks[i][2:-2].replace(b'","', b":"))
        return crc32(b":".join(parts))
