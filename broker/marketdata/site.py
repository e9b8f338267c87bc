"""What an exchange listener answers to plain GET: the page that shows the market, and UDF."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl

from broker.config.dialects.gateway import GatewayConfig
from broker.marketdata.service import MarketService
from broker.marketdata.udf import Udf

FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/market.js": ("market.js", "text/javascript; charset=utf-8"),
    "/market.css": ("market.css", "text/css; charset=utf-8"),
    "/lightweight-charts.js": ("lightweight-charts.js", "text/javascript; charset=utf-8"),
    "/lightweight-charts.LICENSE.txt": ("lightweight-charts.LICENSE.txt", "text/plain; charset=utf-8"),
    "/datafeed.js": ("datafeed.js", "text/javascript; charset=utf-8"),
}
UDF_PATH: Final = "/udf/"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:;"
    " img-src 'self' data:"
)
"""For the page: nothing comes from elsewhere."""


class Site:
    """Answers a browser: the page, its files, and UDF.

    Args:
        service: whose market it is.
        gateway: says where the exchange's stream is.
    """

    def __init__(self, service: MarketService, gateway: GatewayConfig) -> None:
        self._udf = Udf(service)
        self._stream_path = gateway.exchange.path if gateway.exchange is not None else "/"
        self._bodies: dict[str, bytes] = {}

    async def answer(self, target: str) -> bytes | None:
        """The whole HTTP response for a path with its query; None if nothing is there."""
        path, _, query = target.partition("?")
        if path.startswith(UDF_PATH):
            text = await self._udf.answer(path.removeprefix(UDF_PATH), dict(parse_qsl(query)))
            if text is None:
                return None
            return _response("application/json", text.encode(), {"Access-Control-Allow-Origin": "*"})
        found = FILES.get(path)
        if found is None:
            return None
        name, content_type = found
        if name not in self._bodies:
            self._bodies[name] = self._read(name)
        return _response(content_type, self._bodies[name], {"Content-Security-Policy": POLICY})

    def _read(self, name: str) -> bytes:
        body = files("broker.marketdata").joinpath("web", name).read_bytes()
        return body.replace(b"{{path}}", escape(self._stream_path).encode()) if name == "index.html" else body


def _response(content_type: str, body: bytes, more: dict[str, str]) -> bytes:
    headers = {
        "Connection": "close",
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    } | more
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
