"""What an exchange listener answers to plain GET: files of its own and nothing else, whatever is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.marketdata.site import FILES, POLICY, Site

SERVICE: Any = None


def site(path: str = "/exchange-stream") -> Site:
    return Site(SERVICE, GatewayConfig(exchange=Exchange(path=path)))


@pytest.mark.parametrize("target", FILES)
async def test_each_file_is_whole_and_may_load_nothing_from_elsewhere(target: str) -> None:
    for asked in (target, target + "?v=1"):
        answer = await site().answer(asked)
        assert answer is not None
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 200 OK"
        headers = dict(line.split(": ", 1) for line in lines[1:])
        assert headers["Content-Length"] == str(len(body))
        assert headers["Content-Type"] == FILES[target][1]
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert body


@pytest.mark.parametrize(
    "target", ["", "//", "/index.html", "/../site.py", "/market.js/", "/%2e%2e/site.py", "/udf", "index.html"]
)
async def test_nothing_else_is_there(target: str) -> None:
    assert await site().answer(target) is None


async def test_the_page_knows_where_the_stream_is_and_takes_no_markup_from_it() -> None:
    page = await site('/x"><b>').answer("/")
    assert page is not None
    assert b"/x&quot;&gt;&lt;b&gt;" in page
    assert b"{{path}}" not in page
    other = await Site(SERVICE, GatewayConfig()).answer("/")
    assert other is not None
    assert b"{{path}}" not in other
