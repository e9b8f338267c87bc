"""What a configuration says about market data: sources beside Postgres, and what is calculated from their rows."""

from __future__ import annotations

import hashlib

from attrs import field, frozen

from broker.config.feeds import FeedConfig, Route


@frozen
class SequencePaths:
    """Where in a row its message's number is, which rises by one with each message.

    With `first` a message stands for all numbers from that to `last`; with `previous` it names the one before it.
    A message without these two says all, up to its `last`.  `by` is whose numbers they are, if not the source's.
    """

    last: tuple[str, ...]
    first: tuple[str, ...] = ()
    previous: tuple[str, ...] = ()
    by: tuple[str, ...] = ()


@frozen
class AddedColumn:
    """A column that each row of a message gets besides its own.

    `paths` are where in the message it may be, of which the first counts where something is; of that what is in the
    group of the expression `match`, and instead of it what `words` have for it.  `value` is what all rows get.
    """

    name: str
    paths: tuple[tuple[str, ...], ...] = ()
    value: str = ""
    match: str = ""
    words: dict[str, str] = field(factory=dict)


@frozen
class RowsConfig:
    """How messages hold their rows.

    `paths` are where they may be, of which the first counts where a row or an array is; `columns` name what stands
    where in a row that is an array; `format` is `json` or `csv`.
    """

    paths: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = ()
    format: str = "json"
    added: tuple[AddedColumn, ...] = ()

    def is_plain(self, kind_path: tuple[str, ...]) -> bool:
        """Whether rows are objects that are found by names alone."""
        if self.columns or self.format != "json" or len(self.paths) > 1:
            return False
        return not any(step.startswith("[") for path in (kind_path, *self.paths) for step in path)


@frozen
class Intake:
    """A source that is no table: `kind` is `query`, `tcp`, `udp` or `mqtt`; `feed` has its name and its routes.

    `host` and `port` are where a peer sends to, 0 for any free port.
    """

    kind: str
    feed: FeedConfig
    host: str = ""
    port: int = 0
    filters: tuple[str, ...] = ()
    query: str = ""
    key: tuple[str, ...] = ()
    every_s: float = 1.0
    sequence: SequencePaths | None = None
    rows: RowsConfig = RowsConfig()
    taps: tuple[tuple[str | None, str], ...] = ()
    """Which of the calculators' taps it feeds, by `key`, each with the kind of rows that it takes, or all."""


@frozen
class Common:
    """What all calculators may be told.  `from_` names a source, `kind` the rows that are meant, if not all."""

    from_: str
    name: str = ""
    kind: str | None = None
    symbol: str = "symbol"
    snapshot: str = ""
    replay: str = ""
    """A query for rows that are counted at the start, before the first live one."""
    where: str = ""


@frozen
class DepthConfig(Common):
    """[[market.depth]]"""

    shape: str = "snapshot"
    side: str = "side"
    price: str = "price"
    size: str = "size"
    bids: str = "bids"
    asks: str = "asks"
    changes: str = "changes"
    """For `diffs`: a list of both sides' levels, each with its side, instead of two lists."""
    whole_bids: str = ""
    whole_asks: str = ""
    """For `diffs`: where the sides of a whole book are, if not where changes are."""
    lists_are_whole: bool = False
    """`changes` are a whole book if they are several in a list, and a change if it is one level alone."""
    action: str = "type"
    actions: dict[str, str] = field(factory=dict)
    """What the column `action` says, to `whole`, `set`, `remove`, `reduce` or `ignore`; empty: the usual words."""
    id: str = ""
    """What names an order, or a level; levels are the sums of their orders then."""
    level: tuple[str, ...] = ()
    """What stands where in a level that is an array."""
    removed_by: str = ""
    """A column that is 0 where a level has gone."""
    signed: bool = False
    """Sizes of asks are negative."""
    time: str = ""
    sides: dict[str, str] = field(factory=dict)
    """What the column `side` says, to `buy` or `sell`; empty: the usual words."""
    every_s: float = 0.1
    levels: int = 1000
    source_levels: int = 0
    """So many a side the source tells of, without a word for what leaves them; 0 is all."""
    checksum: bool = True
    crossed_for_s: float = 1.0


@frozen
class OfTrades(Common):
    """What calculators of trades may be told; a column "" is not there."""

    price: str = "price"
    size: str = "size"
    side: str = "side"
    id: str = "id"
    time: str = "ts"
    sides: dict[str, str] = field(factory=dict)
    """As for `depth`."""
    signed: bool = False
    """Sizes of sales are negative."""


@frozen
class TradesConfig(OfTrades):
    """[[market.trades]]"""

    every_s: float = 0.1
    merge_by: tuple[str, ...] = ()
    recent: int = 0
    """Entries that whoever subscribes gets first."""


@frozen
class KlineConfig(OfTrades):
    """[[market.kline]]"""

    intervals: tuple[str, ...] = ("1m", "5m", "15m", "1h", "4h", "1d", "1w")
    day_starts: str = "00:00"
    every_s: float = 0.25
    late_s: float = 5.0
    keep_s: float = 7200.0
    fill: str = "previous_close"
    history: str = ""


@frozen
class TickerConfig(OfTrades):
    """[[market.ticker]]"""

    window_s: float = 86400.0
    every_s: float = 1.0


@frozen
class IndexConfig:
    """`index = { of = […], how = "median" }`"""

    of: tuple[str, ...]
    how: str = "median"
    outlier: str = "0.05"
    settle_over_s: float = 3600.0
    """Over how long the settlement price is a mean of the index."""


@frozen
class FundingConfig:
    """`funding = { every = "8h", clamp = "0.0075" }`"""

    every_s: float = 28800.0
    clamp: str = "0.0075"


@frozen
class MarkPriceConfig(Common):
    """[[market.markprice]]"""

    mark: str = "mark"
    price: str = "price"
    source: str = "source"
    settle: str = "settle"
    next_funding: str = "next_funding"
    every_s: float = 1.0
    stale_after_s: float = 10.0
    index: IndexConfig | None = None
    funding: FundingConfig | None = None


@frozen
class Tap:
    """Rows that calculators take: of one source, and one kind of it or all.

    `calculators` are pairs of a name such as `depth` and its number among the calculators of that name.
    """

    source: str
    calculators: tuple[tuple[str, int], ...]
    kind: str | None = None
    is_removal: bool = False
    part: str = ""
    """The source is one of those that an index is made of."""
    snapshot: str = ""

    @property
    def key(self) -> str:
        """What routes call it.  The same in every configuration that has it, wherever its tables stand."""
        said = repr((self.source, self.kind, self.is_removal, self.part, self.snapshot))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@frozen
class MarketConfig:
    """All of it.  `routes` are those from `market.…`."""

    depth: tuple[DepthConfig, ...] = ()
    trades: tuple[TradesConfig, ...] = ()
    kline: tuple[KlineConfig, ...] = ()
    ticker: tuple[TickerConfig, ...] = ()
    markprice: tuple[MarkPriceConfig, ...] = ()
    taps: tuple[Tap, ...] = ()
    routes: tuple[Route, ...] = ()
    intakes: tuple[Intake, ...] = ()
    page: bool = True
    """Whether `GET /` on an exchange listener shows the market."""
    database: FeedConfig | None = field(default=None, repr=False)

    @property
    def is_used(self) -> bool:
        """Whether anything is to be calculated."""
        return bool(self.taps or self.intakes)


CALCULATORS = ("depth", "trades", "kline", "ticker", "markprice")

PREFIX = "market."
"""Of what routes call them."""


def shown_name(kind: str, index: int, table: Common) -> str:
    """What a calculator is called in counters and logs."""
    return PREFIX + (table.name or (kind if not index else f"{kind}{index + 1}"))


TAP_TARGET = "market"
"""The target of routes that lead to calculators; the channel's name is the tap's key."""
