"""Rowcast: rows committed in Postgres, delivered over MQTT and WebSocket from one process.

The embedding API:

    import trio
    from broker import Broker, Config

    async def main() -> None:
        async with Broker(Config()) as broker:
            await broker.publish("greeting", b"hello", retain=True)
            async for message in broker.subscribe("greeting"):
                print(message.topic, message.payload)
                break

    trio.run(main)

`Config` is made by hand, or read from a file by `load` of `broker.config.toml.configuration` or
`broker.config.mosquitto.configuration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.config.model import Config, ConfigError, Listener
    from broker.embed import Broker, Message
    from broker.message_properties import MessageProperties

__all__ = ["Broker", "Config", "ConfigError", "Listener", "Message", "MessageProperties"]

_HOMES = {
    "Broker": "broker.embed",
    "Message": "broker.embed",
    "MessageProperties": "broker.message_properties",
    "Config": "broker.config.model",
    "ConfigError": "broker.config.model",
    "Listener": "broker.config.model",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `rowcast --version` does not load a broker."""
    if name not in _HOMES:
        raise AttributeError(f"module 'broker' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
