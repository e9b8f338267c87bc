"""[tokens] jwks_url end to end: a key is changed at the address, and nobody has to restart or log in again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import trio
import trio_websocket
from cryptography.hazmat.primitives.asymmetric import rsa
from support.mqtt_stream import StreamClient
from support.rowcast_process import RowcastProcess

from protocol.mqtt.packets import Connack, Connect

SETTINGS = """
[[listener]]
port = {port}
host = "127.0.0.1"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
[websocket.rowcast]
[security]
tokens = true
[tokens]
jwks_url = "URL"
audience = "rows"
"""


class KeySet:
    """An HTTP server with a JWKS; `keys` may be changed."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = json.dumps({"keys": outer.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def key_set() -> Iterator[KeySet]:
    served = KeySet()
    try:
        yield served
    finally:
        served.close()


class Signer:
    def __init__(self, name: str) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = name
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        self.jwk = {**public, "kid": name, "use": "sig", "alg": "RS256"}

    def token(self, **claims: object) -> str:
        whole = {
            "sub": "ada",
            "aud": "rows",
            "exp": time.time() + 600,
            "subscribe": ["orders/{sub}"],
            **claims,
        }
        return jwt.encode(whole, self._key, "RS256", headers={"kid": self._name})


async def says(port: int, token: str) -> str:
    """What the server answers to a connect with this token."""
    async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{port}/rowcast") as ws:
        await ws.send_message(json.dumps({"id": 1, "connect": {"token": token}}))
        return str(await ws.get_message())


async def connack(port: int, token: str) -> int:
    client = StreamClient(await trio.open_tcp_stream("127.0.0.1", port))
    await client.send(Connect(b"c", True, 60, user_name=b"any", password=token.encode()))
    answer = await client.receive()
    assert isinstance(answer, Connack)
    return answer.return_code


async def let_in(process: RowcastProcess, token: str) -> None:
    """Until both kinds of clients are: keys are asked for beside the logins, which nobody waits with."""
    while '"connected"' not in await says(process.websocket_port, token):  # noqa: ASYNC110
        await trio.sleep(0.1)
    while await connack(process.port, token) != 0:  # noqa: ASYNC110
        await trio.sleep(0.1)


ASKING_OFTEN = """
import sys
from broker.cli.main import main
from broker.gateway import tokens
tokens.UNKNOWN_KEY_PAUSE_S = 0.5
sys.exit(main())
"""


async def test_a_key_that_is_changed_at_its_address_is_found_by_its_name(tmp_path: Path) -> None:
    first, second = Signer("first"), Signer("second")
    with key_set() as served:
        served.keys = [first.jwk]
        process = RowcastProcess.from_toml(tmp_path, SETTINGS.replace("URL", served.url))
        process.program = ["-c", ASKING_OFTEN]
        with (
            process,
            trio.CancelScope(deadline=trio.current_time() + 60),
        ):
            await let_in(process, first.token())
            assert '"connected"' not in await says(process.websocket_port, first.token(aud="others"))
            async with trio_websocket.open_websocket_url(
                f"ws://127.0.0.1:{process.websocket_port}/rowcast"
            ) as stays:
                await stays.send_message(json.dumps({"id": 1, "connect": {"token": first.token()}}))
                await stays.get_message()

                served.keys = [second.jwk]
                await let_in(process, second.token())  # a key is asked for when a token names it
                await stays.send_message('{"id":2,"subscribe":"orders/ada"}')
                assert '"subscribed":"orders/ada"' in str(await stays.get_message())
            assert '"connected"' not in await says(process.websocket_port, first.token())
            assert served.asked < 20
