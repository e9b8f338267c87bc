"""What a configuration says about Postgres and about the WebSocket dialects, as values.

The mapping language: a *source* is where rows come from, a *kind* names what a row is, a *route* turns rows of
one kind into publications, *recover* says how to re-read a kind by key after a gap.
"""

from __future__ import annotations

from attrs import field, frozen


@frozen
class Source:
    """Postgres channels that carry rows.

    `kind_path` and `row_path` are JSON paths of plain keys, `("channel",)` for `$.channel`; empty `kind_path`
    means that the kind is the Postgres channel's name, empty `row_path` that the whole text is the row.
    """

    name: str
    listen: tuple[str, ...]
    kind_path: tuple[str, ...] = ()
    row_path: tuple[str, ...] = ()


@frozen
class Route:
    """Rows of one source (and, if given, one kind) to publications.

    `topics` are templates: text with `{column}` or `{$kind}`.  `target` is `mqtt`, or a dialect's name, whose
    topics are channel names in that dialect.
    """

    source: str
    topics: tuple[str, ...]
    kind: str | None = None
    target: str = "mqtt"
    body: str = "row"
    """`row`: the row's JSON text; `raw`: the notification's whole text; `envelope`: {"channel", "payload"}."""
    qos: int = 1
    retain: bool = False
    once_per: tuple[str, ...] = ()
    once_for_s: float = 3600.0
    on_null: str = "drop"
    """`drop`, or the text to use for a NULL."""
    on_unsafe: str = "drop"
    """`drop`, `percent` (percent-encode), or the text to use."""
    fetch: str | None = None
    where: str = ""
    """The place in the configuration, as `FILE:LINE`, for messages."""


@frozen
class Recovery:
    """How rows of one kind are read again by key after a gap."""

    kind: str
    table: str
    key: tuple[str, ...]
    where: str = ""


@frozen
class FeedConfig:
    """One Postgres database and everything taken from it."""

    name: str
    dsn: str
    kind: str = "listen"
    sources: tuple[Source, ...] = ()
    routes: tuple[Route, ...] = ()
    recoveries: tuple[Recovery, ...] = ()


@frozen
class JwtConfig:
    """How a dialect's tokens are verified.  `secret` is the key itself, never a reference to it."""

    secret: str = field(repr=False)
    algorithms: tuple[str, ...] = ("HS256",)
    mode_claim: str = "mode"
    channels_claims: tuple[str, ...] = ("channels", "channel")


@frozen
class EconiaDialect:
    jwt: JwtConfig
    path: str = "/{channel?}/{jwt}"
    ping_interval_s: float = 30.0


@frozen
class Gateway:
    """The WebSocket dialects that are switched on; None where a listener may not name it."""

    econia: EconiaDialect | None = None
