"""Who may ask the admin port, and the port of the metrics.

Without a token only this machine may, and only under one of its own names: a web page whose name is made to mean
this machine (DNS rebinding) could otherwise read and act from the browser of somebody here.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from typing import Final

from broker.admin.http import HttpError, Request

PUBLIC: Final = frozenset({"/", "/healthz", "/readyz"})
"""Says nothing but how the process is; the page itself holds no data."""

LIVE_PATH: Final = "/api/v1/live"
"""The page's WebSocket, which shows its token in its first message; other sites' pages are kept out."""

ONLY_HERE = "only this machine may ask, as long as no token is configured"


class Access:
    """The rule of one port.

    Args:
        tokens: gives the tokens that are good, as they are now; none is no token at all.
        public: paths that anybody may ask for.
        anybody: without a token everybody may ask, not this machine only.
    """

    def __init__(
        self, tokens: Callable[[], tuple[str, ...]], public: frozenset[str] = PUBLIC, *, anybody: bool = False
    ) -> None:
        self._tokens = tokens
        self._public = public
        self._anybody = anybody

    def check(self, request: Request, peer_host: str) -> None:
        """Raises: HttpError, for those who may not ask."""
        if request.path in self._public:
            return
        if "upgrade" in request.headers:
            _check_origin(request)
        if request.path == LIVE_PATH:
            if not self._tokens():
                self._check_is_here(request, peer_host)
            return
        if self._tokens():
            if not self.shows_right_token(request):
                raise HttpError(401, "the bearer token is missing or wrong", ("WWW-Authenticate", "Bearer"))
        elif not self._anybody:
            self._check_is_here(request, peer_host)

    def shows_right_token(self, request: Request) -> bool:
        """Whether its token is one of today's; anything is, if none is configured."""
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        return not self._tokens() or (scheme.lower() == "bearer" and self.is_right(presented))

    def is_right(self, presented: str) -> bool:
        """Whether that is a token; anything is, if none is configured."""
        tokens = self._tokens()
        shown = presented.encode("utf-8", "replace")
        return not tokens or any(hmac.compare_digest(shown, token.encode()) for token in tokens)

    def _check_is_here(self, request: Request, peer_host: str) -> None:
        if not is_loopback(peer_host):
            raise HttpError(403, ONLY_HERE)
        if not names_this_machine(request.headers.get("host", "")):
            raise HttpError(403, "as long as no token is configured, ask for 127.0.0.1 or localhost")


def _check_origin(request: Request) -> None:
    """A browser lets any page open a WebSocket to anywhere; it says whose page it is."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
        raise HttpError(403, "another site's page may not connect")


def names_this_machine(host: str) -> bool:
    """Whether a Host header is `localhost` or an address, which no foreign page can make its own; "" is nobody's."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a peer's address is this machine's loopback."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
