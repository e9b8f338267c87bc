"""CantonDEX's messages of its own document, made of calculated ones; numbers keep their digits."""

from __future__ import annotations

import json

from broker.marketdata.parts import as_canton_book, as_canton_price


def test_an_order_book_update_is_the_documents_with_its_order_added() -> None:
    text = b'{"type":"update","prev":4,"seq":5,"bids":[["150.40","0"],["150.45","5000"]],"asks":[],"ts":1731861045000}'
    assert as_canton_book("AAPL/USDC")(text) == (
        b'{"type":"orderbook_update","symbol":"AAPL/USDC","timestamp":"2024-11-17T16:30:45Z","changes":{"bids":['
        b'{"price":150.40,"quantity":0,"action":"delete"},{"price":150.45,"quantity":5000,"action":"update"}],'
        b'"asks":[]},"prev":4,"seq":5}'
    )


def test_a_price_update_is_the_documents() -> None:
    text = b'{"bid":"150.45","ask":"150.50","mid":"150.475","last":null,"ts":1731861045250}'
    assert as_canton_price("AAPL/USDC")(text) == (
        b'{"type":"price_update","symbol":"AAPL/USDC","bid":150.45,"ask":150.50,"mid":150.475,"last_price":null,'
        b'"timestamp":"2024-11-17T16:30:45.250Z"}'
    )
    json.loads(as_canton_price("X")(text))
