"""`POST /v1/mesh/publish`: a message, or a batch of them, for channels of a dialect.  Pure but for publishing.

One message is `{"c": CHANNEL, "d": TEXT}`; a batch is a list of them, all published or, if one is wrong, none.
The channel carries its dialect's prefix: `ex:1001@balance`, `canton:orders/acc_1`, `econia:fill_event`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from broker.config.dialects.gateway import DIALECT_KINDS, GatewayConfig
from broker.gateway.channels import BadChannel, topic_of
from broker.gateway.gateway import Gateway
from protocol.dialects.base import json_text

BATCH_MAX: Final = 1000


class BadPublish(ValueError):
    """The request can't be published; the text says why."""


def prefixes_of(config: GatewayConfig) -> dict[str, str]:
    """What may stand before a channel's name, and which dialect it means."""
    return {kind.mesh_prefix: kind.name for kind in config.dialects if kind.mesh_prefix}


class MeshPublisher:
    """Publishes what HTTP requests ask for.

    Args:
        gateway: where channels are.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._prefixes = prefixes_of(gateway.config)

    def publish(self, body: bytes) -> int:
        """Publish one message or a batch.

        Returns:
            How many messages were published; readers are not waited for.

        Raises:
            BadPublish: nothing was published.
        """
        messages = [self._message(item, where) for item, where in _items(body)]
        for dialect, channel, payload in messages:
            self._gateway.publish(dialect, channel, payload)
        return len(messages)

    def _message(self, item: object, where: str) -> tuple[str, str, bytes]:
        if not isinstance(item, dict):
            raise BadPublish(f'{where}{{"c": CHANNEL, "d": TEXT}} is wanted')
        name, data = item.get("c"), item.get("d")
        if not isinstance(name, str):
            raise BadPublish(f"{where}c must be a channel's name")
        dialect, channel = self._channel(name, where)
        return dialect, channel, _payload(data, where)

    def _channel(self, name: str, where: str) -> tuple[str, str]:
        for prefix, dialect in self._prefixes.items():
            if name.startswith(prefix):
                channel = name[len(prefix) :]
                try:
                    topic_of(dialect, channel)
                except BadChannel as error:
                    raise BadPublish(f"{where}c: {error}") from None
                wrong = DIALECT_KINDS[dialect].machine.why_unreadable(channel)
                if wrong is not None:
                    raise BadPublish(f"{where}c: nobody can read {name}: {wrong}")
                return dialect, channel
        known = " or ".join(self._prefixes) or "(no dialect is set up)"
        raise BadPublish(f"{where}c must begin with {known}")


def _items(body: bytes) -> list[tuple[object, str]]:
    """The messages in a request, each with where it stands, for an error."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise BadPublish("the body must be JSON") from None
    if not isinstance(value, list):
        return [(value, "")]
    if not 0 < len(value) <= BATCH_MAX:
        raise BadPublish(f"a batch has 1 to {BATCH_MAX} messages, not {len(value)}")
    return [(item, f"[{index}] ") for index, item in enumerate(value)]


def _payload(data: object, where: str) -> bytes:
    """Text is sent as it is; an object or a list as its JSON text."""
    if isinstance(data, dict | list):
        data = json_text(data)
    if not isinstance(data, str):
        raise BadPublish(f"{where}d must be text, or an object")
    try:
        return data.encode()
    except UnicodeEncodeError:
        raise BadPublish(f"{where}d must be valid Unicode text") from None
