"""Subscribe to a Rowcast over WebSocket and miss nothing over a reconnect.

    from rowcast_client.trio import connect            # or rowcast_client.asyncio

    async with connect("ws://127.0.0.1:8080/rowcast") as rowcast:
        async for event in rowcast.subscribe("orders/#", state=True):
            match event:
                case State(messages): ...              # replace what you have
                case Message(topic, data): ...
                case Gap(reason): ...                  # a State follows

What is the same under both, and whatever else does the I/O, is `rowcast_client.core`.
"""

from rowcast_client.core import Gap, Message, Refused, Skipped, State, Stopped

__all__ = ["Gap", "Message", "Refused", "Skipped", "State", "Stopped"]
