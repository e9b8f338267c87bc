"""Tokens by several secrets, public keys and key sets: what is good, and that nothing else ever is."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import jwt
import pytest
import trio
from support.hostile_values import JSON_TEXTS
from trio.testing import MockClock

from broker.config.model import Security
from broker.config.tokens import TokenConfig
from broker.core import barrier
from broker.core.counters import Counters
from broker.gateway.authentication import NAMELESS, Authenticator, Rules, RulesError
from broker.gateway.tokens import TokenVerifier, UnusableKey, keys_in
from protocol.dialects.base import Clock, Identity, Refusal

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, rsa

OLD, NEW = "o" * 32, "n" * 32
CLAIMS = {"sub": "ada", "subscribe": ["orders/{sub}"], "publish": ["chat/#"]}
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: str) -> dict[str, object]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), **more}  # type: ignore[arg-type]


def verified(verifier: TokenVerifier, token: str) -> Identity | Refusal:
    return verifier.verify(token, Clock(0.0), time.time())


def test_either_of_two_secrets_so_that_one_can_be_changed() -> None:
    both = TokenVerifier(TokenConfig(secrets=(NEW, OLD)))
    for secret in (OLD, NEW):
        found = verified(both, jwt.encode(CLAIMS, secret))
        assert isinstance(found, Identity)
        assert found.account == "ada"
    assert verified(TokenVerifier(TokenConfig(secrets=(NEW,))), jwt.encode(CLAIMS, OLD)) is Refusal.INVALID


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_public_keys_from_pem_and_from_a_key_set(
    tmp_path: Path, key: rsa.RSAPrivateKey, algorithm: str
) -> None:
    (tmp_path / "key.pem").write_bytes(public_pem(key))
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(RSA, kid="r"), jwk(EC, kid="e")]}))
    token = jwt.encode(CLAIMS, key, algorithm=algorithm)
    named = jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": "r" if key is RSA else "e"})
    other = jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": "gone"})
    by_pem = TokenVerifier(TokenConfig(keys=(tmp_path / "key.pem",)))
    by_set = TokenVerifier(TokenConfig(jwks_file=tmp_path / "jwks.json"))
    assert isinstance(verified(by_pem, token), Identity)
    assert isinstance(verified(by_set, token), Identity)
    assert isinstance(verified(by_set, named), Identity)
    assert verified(by_set, other) is Refusal.INVALID


def test_a_public_key_is_no_secret_and_a_secret_no_key(tmp_path: Path) -> None:
    """The classical forgery: an HMAC with the text of a public key as its secret."""
    (tmp_path / "key.pem").write_bytes(public_pem(RSA))
    verifier = TokenVerifier(TokenConfig(secrets=(NEW,), keys=(tmp_path / "key.pem",)))
    text = public_pem(RSA)
    head = {"alg": "HS256", "typ": "JWT"}
    import base64
    import hashlib
    import hmac

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    body = part(head) + b"." + part(CLAIMS)
    forged = (
        body + b"." + base64.urlsafe_b64encode(hmac.new(text, body, hashlib.sha256).digest()).rstrip(b"=")
    )
    assert verified(verifier, forged.decode()) is Refusal.INVALID
    unsigned = part({"alg": "none"}) + b"." + part(CLAIMS) + b"."
    assert verified(verifier, unsigned.decode()) is Refusal.INVALID


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "x" * 10_000, "e30.e30.e30", "\0"])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert verified(TokenVerifier(TokenConfig(secrets=(NEW,))), token) is Refusal.INVALID


def test_whom_it_is_for_and_who_made_it() -> None:
    verifier = TokenVerifier(TokenConfig(secrets=(NEW,), audience="us", issuer="id"))
    assert isinstance(
        verified(verifier, jwt.encode({**CLAIMS, "aud": ["x", "us"], "iss": "id"}, NEW)), Identity
    )
    assert isinstance(verified(verifier, jwt.encode({**CLAIMS, "aud": "us", "iss": "id"}, NEW)), Identity)
    assert verified(verifier, jwt.encode({**CLAIMS, "aud": "us"}, NEW)) is Refusal.INVALID
    assert verified(verifier, jwt.encode({**CLAIMS, "aud": "they", "iss": "id"}, NEW)) is Refusal.INVALID


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"keys":1}',
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"AAAA"}]}',
        b'{"keys":{"a":1}}',
        b'{"keys":["a",null]}',
    ],
)
def test_a_key_set_without_a_public_key_can_not_be_used(text: bytes) -> None:
    with pytest.raises(UnusableKey):
        keys_in(text)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        *(b"HTTP/1.1 200 OK\r\n\r\n" + text.encode() for text in JSON_TEXTS),
    ],
)
async def test_whatever_an_address_answers_the_keys_stay_and_the_process_goes_on(answer: bytes) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    config = TokenConfig(jwks_url=f"http://127.0.0.1:{listener.socket.getsockname()[1]}/", secrets=(NEW,))
    verifier = TokenVerifier(config)

    async def serve() -> None:
        async with listener, await listener.accept() as stream:
            with suppress(trio.BrokenResourceError):
                await stream.receive_some(9999)
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await verifier.refresh()
    assert isinstance(verified(verifier, jwt.encode(CLAIMS, NEW)), Identity)


async def test_a_bug_in_reading_a_key_set_ends_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, counters = (
        TokenVerifier(TokenConfig(jwks_url="http://127.0.0.1:1/", secrets=(NEW,))),
        Counters(),
    )
    monkeypatch.setattr(barrier, "RERAISE", False)

    async def refresh() -> None:
        verifier._asked_at = trio.current_time()
        raise RuntimeError("a bug")

    monkeypatch.setattr(verifier, "refresh", refresh)
    with trio.move_on_after(1000):
        await verifier.keep_fresh(counters)
    assert sum(counters.unexpected.values()) >= 2


def authenticator(**settings: object) -> Authenticator:
    security = Security(tokens=True, token_config=TokenConfig(secrets=(NEW,)), **settings)  # type: ignore[arg-type]
    return Authenticator(Rules(security), allow_anonymous=security.allow_anonymous)


def test_an_mqtt_client_shows_its_token_as_password() -> None:
    verdict = authenticator().check(b"anything", jwt.encode({**CLAIMS, "exp": 4e9}, NEW).encode())
    assert verdict.accepted
    assert verdict.user_name == b"ada"
    assert verdict.expires_unix_s == 4e9
    access = verdict.access
    assert access is not None
    assert access.may_read(b"orders/ada")
    assert not access.may_read(b"orders/bob")
    assert access.may_write(b"chat/7")
    assert not access.may_write(b"orders/ada")


def test_what_a_client_calls_itself_beside_a_token_that_names_nobody_proves_nothing() -> None:
    verdict = authenticator().check(b"ada", jwt.encode({"subscribe": ["#"]}, NEW).encode())
    assert verdict.accepted
    assert verdict.user_name == NAMELESS


def test_an_mqtt_client_with_a_bad_token_is_refused_even_where_anonymous_ones_are_not() -> None:
    for token in (jwt.encode(CLAIMS, OLD), jwt.encode({**CLAIMS, "exp": 1}, NEW), "hunter2", ""):
        assert not authenticator(allow_anonymous=True).check(b"ada", token.encode()).accepted
        assert not authenticator(allow_anonymous=True).check(None, token.encode()).accepted
    assert authenticator(allow_anonymous=True).check(None, None).accepted


def test_who_came_with_a_token_and_left_gets_nothing_by_the_rules_of_others() -> None:
    rules = authenticator().rules
    absent = rules.access_for(b"ada", b"client")
    assert absent is not None
    assert not absent.may_read(b"orders/ada")
    assert rules.restricts_reading


def test_a_file_of_secrets(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"{NEW}\n{OLD}\n")
    verifier = TokenVerifier(TokenConfig(secret_files=(path,)))
    assert isinstance(verified(verifier, jwt.encode(CLAIMS, OLD)), Identity)
    path.write_text("short\n")
    with pytest.raises(RulesError, match="fewer than 32 bytes"):
        Rules(Security(tokens=True, token_config=TokenConfig(secret_files=(path,))))
