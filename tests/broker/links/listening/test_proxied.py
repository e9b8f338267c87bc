"""What a listener wants of clients behind a proxy, and whom it takes them for."""

from __future__ import annotations

from broker.config.model import Listener
from broker.links.listening.proxied import identity_in, refusal
from protocol.proxy import ProxyHeader


def test_a_listener_may_want_tls_and_a_certificate() -> None:
    plain, tls_only, whole = (
        ProxyHeader("h", 1),
        ProxyHeader("h", 1, tls=True),
        ProxyHeader("h", 1, False, True, True),
    )
    wants_tls = Listener(0, proxy_protocol_v2_require_tls=True)
    wants_certificate = Listener(0, proxy_v2_require_certificate=True)
    assert refusal(plain, Listener(0)) is None
    assert refusal(plain, wants_tls) == "client did not connect using TLS."
    assert refusal(tls_only, wants_tls) is None
    assert refusal(tls_only, wants_certificate) == "client did not provide a certificate."
    assert refusal(whole, wants_certificate) is None


def test_the_common_name_counts_only_where_it_was_verified_and_is_wanted() -> None:
    wanted = Listener(0, proxy_v2_use_identity_as_username=True)
    named = ProxyHeader("h", 1, False, True, True, b"device 7")
    assert identity_in(named, wanted) == b"device 7"
    assert identity_in(named, Listener(0)) is None
    assert identity_in(ProxyHeader("h", 1, False, True, False, b"device 7"), wanted) is None
    assert identity_in(ProxyHeader("h", 1, False, True, True, b"device\0 7"), wanted) is None
    assert identity_in(ProxyHeader("h", 1, False, True, True), wanted) is None
