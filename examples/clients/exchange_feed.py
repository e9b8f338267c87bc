"""Public trades, and with a token one's own balance, from an exchange's WebSocket.

    python exchange_feed.py ws://127.0.0.1:6790/exchange-stream BTCUSDT [TOKEN]

Needs trio-websocket, which Rowcast brings along.  `rowcast demo --example exchange` shows a URL and a token.
"""

import json
import sys

import trio
import trio_websocket


async def main(url: str, symbol: str, token: str | None = None) -> None:
    async with trio_websocket.open_websocket_url(url) as websocket:
        if token is not None:
            await ask(websocket, {"op": "auth", "token": token})
            await ask(websocket, {"op": "subscribe", "channel": "@balance"})
        await ask(websocket, {"op": "subscribe", "channel": f"{symbol}@trades"})
        print("subscribed", flush=True)
        while True:
            message = json.loads(await websocket.get_message())
            print(message.get("event"), json.dumps(message.get("data", message)), flush=True)


async def ask(websocket: trio_websocket.WebSocketConnection, request: dict[str, str]) -> None:
    """Send a request and wait for its answer; messages of channels may come in between."""
    await websocket.send_message(json.dumps(request))
    while True:
        answer = json.loads(await websocket.get_message())
        if "event" not in answer:
            break
    if answer.get("result") is not True:
        raise SystemExit(f"refused: {answer.get('msg')}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    trio.run(main, *sys.argv[1:])
