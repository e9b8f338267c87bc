"""What SIGHUP changes of market data: sources, routes, settings that are not of a state, and whole calculators.

A calculator whose state would begin anew, or be another's, takes a restart, which reads it from where it is kept.
"""

from __future__ import annotations

from attrs import evolve, fields

from broker.config.market import CALCULATORS, Common, DepthConfig, Intake, MarketConfig, shown_name

IN_PLACE = {
    "depth": ("every_s", "crossed_for_s"),
    "trades": ("every_s", "merge_by"),
    "kline": ("every_s",),
    "ticker": ("every_s",),
    "markprice": ("every_s", "stale_after_s"),
}
"""Settings that are taken over while a calculator runs."""

AT_THE_START = ("history", "replay", "snapshot")
"""Where a calculator's state is read from, before it takes any row."""


def market_mistakes(old: MarketConfig | None, new: MarketConfig | None) -> list[str]:
    """What takes a restart, and why."""
    if old is None or new is None:
        if old is new:
            return []
        what = "none of it was there" if old is None else "it is used no more"
        return [f"[market]: {what} at the start, and rows are led elsewhere then; that takes a restart."]
    before, after = _tables(old), _tables(new)
    mistakes = []
    for (kind, name), table in after.items():
        if (kind, name) not in before:
            mistakes += _added(name, kind, table, new)
            continue
        changed = [
            field.name
            for field in fields(type(table))
            if field.name not in (*IN_PLACE[kind], "where")
            and getattr(table, field.name) != getattr(before[kind, name], field.name)
        ]
        if changed:
            keys = ", ".join(key.removesuffix("_s").rstrip("_") for key in changed)
            mistakes.append(
                f"[[market.{kind}]] {name}: another {keys} would need another state; that takes a restart."
            )
    return mistakes


def _added(name: str, kind: str, table: Common, config: MarketConfig) -> list[str]:
    read = [key for key in AT_THE_START if getattr(table, key, "")]
    if read:
        return [f"[[market.{kind}]] {name}: {', '.join(read)} is read at the start; that takes a restart."]
    is_asked = any(one.feed.name == table.from_ and one.kind == "query" for one in config.intakes)
    if isinstance(table, DepthConfig) and table.shape != "snapshot" and not is_asked:
        what = f"the levels that {table.from_} has told of before are not told again"
        return [f"[[market.{kind}]] {name}: {what}; that takes a restart."]
    return []


def taken_market(old: MarketConfig | None, new: MarketConfig | None) -> MarketConfig | None:
    """The one to go on with.  The database stays: a restart changes it."""
    if old is None or new is None:
        return old
    return evolve(new, database=old.database)


def is_same_place(old: Intake, new: Intake) -> bool:
    """Whether rows come by the same way, so that its connections can stay."""
    return (old.kind, old.host, old.port, old.filters) == (new.kind, new.host, new.port, new.filters)


def _tables(config: MarketConfig) -> dict[tuple[str, str], Common]:
    return {
        (kind, shown_name(kind, index, table)): table
        for kind in CALCULATORS
        for index, table in enumerate(getattr(config, kind))
    }
