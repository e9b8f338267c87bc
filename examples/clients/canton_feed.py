"""Everything that concerns an account on CantonDEX, over broken connections: nothing is missed with a `[[history]]`.

    python canton_feed.py ws://127.0.0.1:8000/v1/ws TOKEN AAPL/USDC [SYMBOL...]

Needs trio-websocket, which Rowcast brings along.  `rowcast demo --example canton` shows a URL and a token.
"""

import json
import sys

import trio
import trio_websocket

CHANNELS = ("orders", "trades", "settlements", "account_notifications")
DELAY_FIRST_S = 1.0
DELAY_MAX_S = 30.0


async def main(url: str, token: str, symbols: list[str]) -> None:
    delay_s = DELAY_FIRST_S
    since: dict[str, str] = {}
    while True:
        try:
            async with trio_websocket.open_websocket_url(url) as websocket:
                await start(websocket, token, symbols, since)
                delay_s = DELAY_FIRST_S
                await follow(websocket, since)
        except (OSError, trio_websocket.HandshakeError, trio_websocket.ConnectionClosed) as error:
            print(f"disconnected ({error!r}), again in {delay_s:g} s", flush=True)
        await trio.sleep(delay_s)
        delay_s = min(delay_s * 2, DELAY_MAX_S)


async def start(
    websocket: trio_websocket.WebSocketConnection, token: str, symbols: list[str], since: dict[str, str]
) -> None:
    await websocket.send_message(json.dumps({"type": "auth", "token": token}))
    answer = json.loads(await websocket.get_message())
    if answer.get("status") != "authenticated":
        raise SystemExit(f"refused: {answer.get('error_message')}")
    prices = {"channel": "market_data", "symbols": symbols, "aggregation": "1s"}
    account = answer["account_id"]
    channels = [
        {"channel": channel, "since": since.get(f"{channel}/{account}", "now")} for channel in CHANNELS
    ]
    channels.append(prices)
    await websocket.send_message(json.dumps({"type": "subscribe", "channels": channels}))


async def follow(websocket: trio_websocket.WebSocketConnection, since: dict[str, str]) -> None:
    while True:
        text = await websocket.get_message()
        message = json.loads(text)
        if "at" in message:
            since[message["subscription"]] = message["at"]
        if message["type"] == "ping":
            await websocket.send_message(json.dumps({"type": "pong", "timestamp": message["timestamp"]}))
        else:
            print(text, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3:])
