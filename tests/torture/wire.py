"""MQTT clients of one connection, for clients that count."""

from __future__ import annotations

from broker.demo.nodes.client import GONE, Connection
from protocol.mqtt.packets import Will

__all__ = ["GONE", "Connection", "connect"]


async def connect(port: int, client_id: bytes, clean: bool = True, will: Will | None = None) -> Connection:
    """One that need not say that it lives: whole processes are stopped.  Raises: any of `GONE`."""
    return await Connection.open(port, client_id, clean, will, keep_alive_s=0)
