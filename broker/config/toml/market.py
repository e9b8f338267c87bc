"""[[market.*]] of a TOML configuration: what is calculated, from what, and where routes find it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from attrs import evolve

from broker.config.feeds import FeedConfig, Route
from broker.config.market import (
    PREFIX,
    TAP_TARGET,
    Common,
    DepthConfig,
    Intake,
    KlineConfig,
    MarketConfig,
    MarkPriceConfig,
    OfTrades,
    Tap,
    TickerConfig,
    TradesConfig,
)
from broker.config.toml.checks import check_choice
from broker.config.toml.document import Document, array_of
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, unknown_key
from broker.config.toml.sources import Origins

T = TypeVar("T", bound=Common)

CALCULATORS: dict[str, type[Common]] = {
    "depth": DepthConfig,
    "trades": TradesConfig,
    "kline": KlineConfig,
    "ticker": TickerConfig,
    "markprice": MarkPriceConfig,
}
PRICE = "price"
"""Best bid and ask from `depth`, with the last price of any trades: for CantonDEX's `price_update`."""

INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "1w", "1M")
ACTIONS = ("whole", "set", "remove", "reduce", "ignore")
"""What a row can do to a book: see `broker.market.levels`."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class MarketReader:
    """What one document says about market data.

    Args:
        reader: structures tables and takes mistakes.
        document: as tomllib gave it.
        origins: its sources.
        keeps_place: as of the database's kind.
    """

    def __init__(self, reader: Reader, document: Document, origins: Origins, keeps_place: bool) -> None:
        self._reader = reader
        self._origins = origins
        self._keeps_place = keeps_place
        self._found: dict[str, list[tuple[Path, Any]]] = {name: [] for name in CALCULATORS}
        self._taps: list[Tap] = []
        self._tap_routes: list[Route] = []
        self.page = True
        market = document.get("market", {})
        if not isinstance(market, dict):
            reader.wrong(("market",), "market: tables are wanted, such as [[market.depth]]")
            return
        for key, value in market.items():
            if key == "page":
                if not isinstance(value, bool):
                    reader.wrong(("market", "page"), "page: true or false is wanted")
                self.page = value is True
            elif key not in CALCULATORS:
                reader.wrong(("market", key), unknown_key(key, [*CALCULATORS, "page"]))
        for name, cls in CALCULATORS.items():
            for index, value in enumerate(array_of(reader, document, "market", name)):
                path: Path = ("market", name, index)
                table = reader.structure(value, cls, path)
                if table is not None:
                    table = evolve(table, where=reader.where(path))
                    self._check(path, name, table)
                    self._found[name].append((path, table))
        self._make_taps()

    def is_declared(self, source: str) -> bool:
        """Whether routes may take from this: `market.depth`, or `market.NAME`."""
        name = source.removeprefix(PREFIX)
        if name == PRICE:
            return bool(self._found["depth"])
        return bool(self._found.get(name)) or any(
            table.name == name for found in self._found.values() for _, table in found
        )

    def unknown(self, source: str) -> str:
        """The cure for a route that names what nothing calculates."""
        known = [PREFIX + name for name, found in self._found.items() if found]
        if self._found["depth"]:
            known.append(PREFIX + PRICE)
        there = f"there are {', '.join(known)}" if known else f"add [[{source}]]"
        return f"nothing is calculated as {source}: {there}"

    def routes(self) -> list[Route]:
        """Those that lead rows of the database to calculators."""
        return self._tap_routes

    def config(
        self, database: FeedConfig | None, routes: Sequence[Route], intakes: Sequence[tuple[Path, Intake]]
    ) -> MarketConfig:
        """All of it.

        Args:
            routes: all of the document.
            intakes: the sources that are no tables, without their routes.
        """
        ready = []
        for _, intake in intakes:
            name = intake.feed.name
            own = tuple(route for route in routes if route.source == name)
            taps = tuple(
                (tap.kind, tap.key) for tap in self._taps if tap.source == name and not tap.is_removal
            )
            dsn = intake.feed.dsn or (database.dsn if database is not None else "")
            ready.append(evolve(intake, feed=evolve(intake.feed, routes=own, dsn=dsn), taps=taps))
        return MarketConfig(
            **{name: tuple(table for _, table in found) for name, found in self._found.items()},
            taps=tuple(self._taps),
            routes=tuple(route for route in routes if route.source.startswith(PREFIX)),
            intakes=tuple(ready),
            page=self.page,
            database=database,
        )

    def check_use(
        self, routes: Sequence[Route], intakes: Sequence[tuple[Path, Intake]], has_database: bool
    ) -> None:
        """What nothing takes, and what needs a database."""
        taken = {route.source.removeprefix(PREFIX) for route in routes if route.source.startswith(PREFIX)}
        for name, found in self._found.items():
            for path, table in found:
                if not taken & {name, table.name or name} and not (name == "depth" and PRICE in taken):
                    self._reader.wrong(path, f'no route takes {name}: add one with from = "{PREFIX}{name}"')
                for key in ("history", "replay"):
                    if getattr(table, key, "") and not has_database:
                        self._reader.wrong(
                            (*path, key), f"{key} without a database: add [database] with its dsn"
                        )
        used = {route.source for route in routes} | {tap.source for tap in self._taps}
        for path, intake in intakes:
            if intake.feed.name not in used:
                self._reader.wrong(
                    path, f"nothing takes anything from {intake.feed.name}: add a route, or remove it"
                )
            if intake.kind == "mqtt":
                self._check_loops(path, intake, routes)
            if intake.kind == "query" and not intake.feed.dsn and not has_database:
                self._reader.wrong((*path, "query"), "query without a database: add [database], or dsn here")

    def _check_loops(self, path: Path, intake: Intake, routes: Sequence[Route]) -> None:
        """What is made of an MQTT source's messages must not be one of them."""
        name = intake.feed.name
        made = {name}
        for kind, found in self._found.items():
            for _, table in found:
                parts = table.index.of if isinstance(table, MarkPriceConfig) and table.index else ()
                if name in (table.from_, *parts):
                    made |= {PREFIX + kind, PREFIX + (table.name or kind)}
                    made |= {PREFIX + PRICE} if kind in ("depth", "trades") else set()
        for route in routes:
            if route.source not in made or route.target != "mqtt":
                continue
            for topic in route.topics:
                for topic_filter in intake.filters:
                    if can_match(topic, topic_filter):
                        self._reader.wrong(
                            (*path, "mqtt"),
                            f"mqtt: {topic_filter} takes what the route to {topic} ({route.where}) makes of it,"
                            " without end: publish elsewhere, or narrow the filter",
                        )

    def _check(self, path: Path, name: str, table: Any) -> None:
        reader = self._reader
        source = table.from_
        if not self._origins.is_declared(source):
            reader.wrong((*path, "from"), f"from: {self._origins.unknown(source)}")
        kinds = self._origins.kinds_of(source)
        if table.kind is not None and kinds is not None and table.kind not in kinds:
            known = ", ".join(sorted(kinds)) or "none"
            reader.wrong((*path, "kind"), f"kind: source {source} has no {table.kind}: its kinds are {known}")
        if table.name and (not _NAME.fullmatch(table.name) or table.name in (*CALCULATORS, PRICE)):
            reader.wrong(
                (*path, "name"), "name: small letters, digits and _ are wanted, and no calculator's own name"
            )
        if table.snapshot and not self._keeps_place:
            reader.wrong((*path, "snapshot"), 'snapshot: only for the database kinds "wal" and "outbox"')
        if isinstance(table, DepthConfig | OfTrades):
            choices = ("buy", "sell") if isinstance(table, DepthConfig) else ("buy", "sell", "unknown")
            for said, side in table.sides.items():
                check_choice(reader, (*path, "sides", said), side, choices)
        if isinstance(table, DepthConfig):
            check_choice(reader, (*path, "shape"), table.shape, ("snapshot", "levels", "diffs"))
            for said, action in table.actions.items():
                check_choice(reader, (*path, "actions", said), action, ACTIONS)
            for key in ("price", "size"):
                if table.level and getattr(table, key) not in table.level:
                    reader.wrong(
                        (*path, "level"), f"level: {getattr(table, key)} is missing, which is its {key}"
                    )
            if not 1 <= table.levels <= 50_000:
                reader.wrong((*path, "levels"), f"levels: 1 to 50000 is wanted, not {table.levels}")
            if not 0 <= table.source_levels <= 50_000:
                reader.wrong(
                    (*path, "source_levels"),
                    f"source_levels: 1 to 50000 is wanted, or 0 for all, not {table.source_levels}",
                )
        elif isinstance(table, KlineConfig):
            self._check_kline(path, table)
        elif isinstance(table, TickerConfig):
            if not 60 <= table.window_s <= 31 * 86400 or table.window_s % 60:
                reader.wrong((*path, "window"), "window: whole minutes are wanted, from 1m to 31d")
        elif isinstance(table, MarkPriceConfig):
            self._check_markprice(path, table)

    def _check_kline(self, path: Path, table: KlineConfig) -> None:
        reader = self._reader
        for index, interval in enumerate(table.intervals):
            check_choice(reader, (*path, "intervals", index), interval, INTERVALS)
        if not table.intervals:
            reader.wrong((*path, "intervals"), "intervals: name at least one")
        check_choice(reader, (*path, "fill"), table.fill, ("previous_close", "none"))
        if not _TIME.fullmatch(table.day_starts):
            reader.wrong((*path, "day_starts"), 'day_starts: a time in UTC is wanted, such as "00:00"')
        if table.history and not _TABLE.fullmatch(table.history):
            reader.wrong((*path, "history"), 'history: "schema.table" or "table" is wanted')

    def _check_markprice(self, path: Path, table: MarkPriceConfig) -> None:
        reader = self._reader
        if table.index is not None:
            check_choice(reader, (*path, "index", "how"), table.index.how, ("median", "mean"))
            _check_share(reader, (*path, "index", "outlier"), table.index.outlier)
            if not table.index.of:
                reader.wrong((*path, "index", "of"), "of: name at least one")
        if table.funding is not None:
            _check_share(reader, (*path, "funding", "clamp"), table.funding.clamp)
            if table.funding.every_s < 60:
                reader.wrong((*path, "funding", "every"), 'every: at least "1m" is wanted')

    def _make_taps(self) -> None:
        wanted: dict[tuple[str, str | None, bool, str, str], list[tuple[str, int]]] = {}
        for name, found in self._found.items():
            for index, (_, table) in enumerate(found):
                wanted.setdefault((table.from_, table.kind, False, "", table.snapshot), []).append(
                    (name, index)
                )
                if name == "depth" and table.shape == "levels" and self._keeps_place:
                    wanted.setdefault((table.from_, table.kind, True, "", ""), []).append((name, index))
                if isinstance(table, MarkPriceConfig) and table.index is not None:
                    for part in table.index.of:
                        if self._origins.is_declared(part):
                            wanted.setdefault((part, None, False, part, ""), []).append((name, index))
        for (source, kind, is_removal, part, snapshot), calculators in wanted.items():
            self._taps.append(Tap(source, tuple(calculators), kind, is_removal, part, snapshot))
            if source in self._origins.sources:
                levels = any(
                    name == "depth" and self._found[name][i][1].shape == "levels" for name, i in calculators
                )
                operations = ("delete",) if is_removal else ("insert", "update") if levels else ("insert",)
                if any(name in ("depth", "markprice") for name, _ in calculators) and not is_removal:
                    operations = ("insert", "update")
                self._tap_routes.append(
                    Route(
                        source=source,
                        topics=(self._taps[-1].key,),
                        kind=kind,
                        target=TAP_TARGET,
                        qos=0,
                        operations=operations,
                        snapshot=snapshot,
                        where=self._found[calculators[0][0]][calculators[0][1]][1].where,
                    )
                )


_COLUMN = re.compile(r"\\\{[^{}]*\\\}")


def can_match(template: str, topic_filter: str) -> bool:
    """Whether a topic made of this template can match the filter.  A column's value has no `/` in it."""
    levels = template.split("/")
    pattern = topic_filter.split("/")
    for i, wanted in enumerate(pattern):
        if wanted == "#":
            return True
        if i >= len(levels):
            return False
        if wanted != "+" and not re.fullmatch(_COLUMN.sub(".*", re.escape(levels[i])), wanted):
            return False
    return len(levels) == len(pattern)


def _check_share(reader: Reader, path: Path, text: str) -> None:
    try:
        if 0 < Decimal(text) <= 1:
            return
    except InvalidOperation:
        pass
    reader.wrong(path, f'{path[-1]}: a share in quotes is wanted, above 0 and at most 1, such as "0.05"')
