"""Where a handshake shows its token: in a header, or in a subprotocol, where a browser can put nothing else."""

from __future__ import annotations

import pytest

from broker.links.websocket.handshake import OpeningRequest
from broker.links.websocket.shown_token import agreed_subprotocol, shown_token


def opening(authorization: str = "", *subprotocols: str) -> OpeningRequest:
    return OpeningRequest("/rowcast", b"", subprotocols, None, "", authorization)


@pytest.mark.parametrize(
    ("request_", "token"),
    [
        (opening(), ""),
        (opening("Bearer a.b.c"), "a.b.c"),
        (opening("bearer  a.b.c "), "a.b.c"),
        (opening("BEARER a"), "a"),
        (opening("Basic dTpw"), ""),
        (opening("Bearer"), ""),
        (opening("Bearer "), ""),
        (opening("", "rowcast", "token.a.b.c"), "a.b.c"),
        (opening("", "token.a", "token.b"), "a"),
        (opening("", "token."), ""),
        (opening("", "rowcast", "Token.a"), ""),
        (opening("Bearer a", "token.b"), "a"),
        (opening("Basic dTpw", "token.b"), "b"),
        (opening("Bearer ", "token.b"), "b"),
    ],
)
def test_the_header_goes_first_and_then_the_first_subprotocol(request_: OpeningRequest, token: str) -> None:
    assert shown_token(request_) == token


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [((), None), (("token.a",), None), (("token.a", "rowcast"), "rowcast"), (("Rowcast",), None)],
)
def test_only_what_is_offered_is_agreed_to_and_never_a_token(
    offered: tuple[str, ...], agreed: str | None
) -> None:
    assert agreed_subprotocol(opening("", *offered)) == agreed
