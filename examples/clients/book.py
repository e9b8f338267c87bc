"""An order book, kept from an exchange's WebSocket; prints the best bid and ask whenever they change.

    python book.py ws://127.0.0.1:6790/exchange-stream BTCUSDT

Needs trio-websocket, which Rowcast brings along.
"""

import json
import sys
from decimal import Decimal

import trio
import trio_websocket


class Book:
    """The whole of it: a snapshot replaces, an update changes, size "0" removes."""

    def __init__(self) -> None:
        self.seq = 0
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}

    def take(self, data: dict) -> None:
        if data["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        elif data["prev"] != self.seq:
            raise ValueError("a message is missing")  # never happens: a slow reader gets a merged update
        for side, levels in ((self.bids, data["bids"]), (self.asks, data["asks"])):
            for price, size in levels:
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size
        self.seq = data["seq"]


async def main(url: str, symbol: str) -> None:
    async with trio_websocket.open_websocket_url(url) as websocket:
        await websocket.send_message(json.dumps({"op": "subscribe", "channel": f"{symbol}@depth"}))
        book, shown = Book(), None
        while True:
            message = json.loads(await websocket.get_message())
            if "event" not in message:
                if message.get("result") is not True:
                    raise SystemExit(f"refused: {message.get('msg')}")
                print("subscribed", flush=True)
                continue
            book.take(message["data"])
            best = max(book.bids, key=Decimal, default="-"), min(book.asks, key=Decimal, default="-")
            if best != shown:
                print(*best, flush=True)
                shown = best


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    trio.run(main, *sys.argv[1:])
