"""[websocket]: which dialects are spoken, and what they have in common."""

from __future__ import annotations

from typing import Final, get_args

from attrs import fields, frozen, resolve_types

from broker.config.dialects.canton import Canton
from broker.config.dialects.econia import Econia
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.kind import DialectKind
from broker.config.dialects.rowcast import Rowcast


@frozen
class GatewayConfig:
    """The WebSocket dialects that are switched on; None where a listener may not name it."""

    econia: Econia | None = None
    exchange: Exchange | None = None
    canton: Canton | None = None
    rowcast: Rowcast | None = None
    outbox_bytes_max: int = 1024 * 1024
    """Bytes owed to one client of a dialect; above it the channel's policy for slow receivers acts."""
    message_bytes_max: int = 1024 * 1024
    """The largest message that an MQTT or an Econia client may send in one piece."""
    handshake_timeout_s: float = 10.0
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed."""

    @property
    def dialects(self) -> tuple[DialectKind, ...]:
        """Those that are set up.  One whose path is a pattern comes last, so that it hides no other."""
        found = [one for one in (getattr(self, name) for name in DIALECT_KINDS) if one is not None]
        return tuple(sorted(found, key=lambda one: "{" in one.path))


def _kinds() -> dict[str, type[DialectKind]]:
    kinds = [
        kind
        for attribute in fields(resolve_types(GatewayConfig))
        for kind in get_args(attribute.type)
        if isinstance(kind, type) and issubclass(kind, DialectKind)
    ]
    return {kind.name: kind for kind in kinds}


DIALECT_KINDS: Final = _kinds()
"""All there are, by name, as `GatewayConfig` lists them."""
