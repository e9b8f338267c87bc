"""Tokens: what is believed, and that everything else is refused without an exception."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import httpx
import jwt
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.config.tokens import HttpHookConfig, JwtConfig, TokenConfig
from broker.gateway.identity import TOKEN_BYTES_MAX, HttpHook, JwtVerifier, identity_in
from broker.gateway.tokens import TokenVerifier
from protocol.dialects.base import NEVER, Clock, Identity, Refusal

SECRET = "econia_0000000000000000000000000"
UTC_S = 1_700_000_000.0
NOW = 50.0
CLOCK = Clock(utc_offset_s=UTC_S - NOW)


def verify(token: str, **config: object) -> Identity | Refusal:
    return JwtVerifier(JwtConfig(SECRET, **config)).verify(token, CLOCK, NOW)  # type: ignore[arg-type]


def signed(claims: dict[str, object], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_a_signed_token_gives_its_claims_account_and_roles() -> None:
    identity = verify(signed({"account_id": "acc_1", "roles": ["trader"], "mode": "r"}))
    assert isinstance(identity, Identity)
    assert (identity.account, identity.roles) == ("acc_1", frozenset({"trader"}))
    assert identity.claims["mode"] == "r"
    assert identity.expires_at == NEVER


def test_claims_may_have_other_names_and_an_account_may_be_an_integer() -> None:
    identity = verify(signed({"uid": 1001, "scope": "a b"}), account_claim="uid", roles_claim="scope")
    assert isinstance(identity, Identity)
    assert (identity.account, identity.roles) == ("1001", frozenset({"a", "b"}))


def test_expiry_is_told_in_monotonic_seconds() -> None:
    identity = verify(signed({"exp": UTC_S + 30}))
    assert isinstance(identity, Identity)
    assert identity.expires_at == NOW + 30


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        ({"exp": UTC_S}, Refusal.EXPIRED),
        ({"exp": UTC_S - 1}, Refusal.EXPIRED),
        ({"nbf": UTC_S + 1}, Refusal.NOT_YET_VALID),
        ({"exp": "tomorrow"}, Refusal.INVALID),
        ({"exp": 10**400}, Refusal.INVALID),
        ({"nbf": -(10**400)}, Refusal.INVALID),
        ({"exp": True}, Refusal.INVALID),
        ({"nbf": [1]}, Refusal.INVALID),
    ],
)
def test_time_claims_are_checked(claims: dict[str, object], refusal: Refusal) -> None:
    payload = json.dumps(claims).encode()
    token = jwt.api_jws.PyJWS().encode(payload, SECRET, algorithm="HS256")
    assert verify(token) is refusal


def test_an_audience_that_nobody_configured_does_not_matter() -> None:
    assert isinstance(verify(signed({"aud": "somebody", "iat": UTC_S + 5, "sub": "x"})), Identity)


@pytest.mark.parametrize(
    ("claims", "config", "good"),
    [
        ({}, {"require": "exp"}, False),
        ({"exp": None}, {"require": ("exp",)}, False),
        ({"exp": UTC_S + 1}, {"require": ("exp",)}, True),
        ({"exp": UTC_S + 1}, {"require": ("exp", "aud")}, False),
        ({"aud": "x", "exp": UTC_S + 1}, {"require": ("exp", "aud")}, True),
        ({}, {"issuer": "us"}, False),
        ({"iss": "them"}, {"issuer": "us"}, False),
        ({"iss": ["us"]}, {"issuer": "us"}, False),
        ({"iss": "us"}, {"issuer": "us"}, True),
        ({}, {"audience": "here"}, False),
        ({"aud": "there"}, {"audience": "here"}, False),
        ({"aud": {"here": 1}}, {"audience": "here"}, False),
        ({"aud": ["there", "here", {}]}, {"audience": "here"}, True),
        ({"aud": "here"}, {"audience": "here"}, True),
    ],
)
def test_claims_may_be_required(claims: dict[str, object], config: dict[str, object], good: bool) -> None:
    payload = json.dumps(claims).encode()
    token = jwt.api_jws.PyJWS().encode(payload, SECRET, algorithm="HS256")
    assert (verify(token, **config) is not Refusal.INVALID) == good


@pytest.mark.parametrize(
    ("body", "expires_at"),
    [
        ({"uid": 1}, NEVER),
        ({"uid": 1, "exp": UTC_S + 30}, NOW + 30),
        ({"uid": 1, "expires_in": 60}, NOW + 60),
        ({"uid": 1, "exp": UTC_S + 30, "expires_in": 60.5}, NOW + 30),
        ({"uid": 1, "exp": UTC_S + 90, "expires_in": 60.5}, NOW + 60.5),
        ({"uid": 1, "exp": None}, NEVER),
        ({"uid": 1, "exp": UTC_S}, Refusal.EXPIRED),
        ({"uid": 1, "expires_in": 0}, Refusal.EXPIRED),
        ({"uid": 1, "expires_in": -1}, Refusal.EXPIRED),
        ({"uid": 1, "exp": "soon"}, Refusal.INVALID),
        ({"uid": 1, "exp": 10**400}, Refusal.INVALID),
        ({"uid": 1, "expires_in": True}, Refusal.INVALID),
        ({"exp": UTC_S + 30}, Refusal.INVALID),
    ],
)
def test_a_hook_may_say_until_when_its_answer_holds(
    body: dict[str, object], expires_at: float | Refusal
) -> None:
    found = identity_in(json.dumps(body).encode(), CLOCK, NOW)
    assert (found.expires_at if isinstance(found, Identity) else found) == expires_at


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "....",
        "é.é.é",
        "\ud800",
        signed({"mode": "r"}, secret="another_secret_of_32_characters__"),
        signed({"mode": "r"}, secret=SECRET * 2, algorithm="HS512"),
        jwt.encode({"mode": "r"}, "", algorithm="none"),
        signed({"mode": "r"})[:-2],
        "x" * (TOKEN_BYTES_MAX + 1),
    ],
)
def test_a_token_that_is_not_ours_is_invalid(token: str) -> None:
    assert verify(token) is Refusal.INVALID


@given(st.text() | st.builds(".".join, st.lists(st.text(alphabet="abcAB01-_=", max_size=40), max_size=4)))
def test_no_text_raises_or_is_believed(token: str) -> None:
    assert verify(token) is Refusal.INVALID


Answer = Callable[[httpx.Request], httpx.Response]


def hook(answer: Answer, timeout_s: float = 5.0, attempts: int = 3) -> HttpHook:
    config = HttpHookConfig("http://127.0.0.1:8000/websocket_auth", timeout_s, attempts)
    return HttpHook(config, transport=httpx.MockTransport(answer))


ASKED_FOR_THE_FIRST_TIME = """
import sys, trio
from broker.config.tokens import HttpHookConfig
from broker.gateway.identity import HttpHook
from protocol.dialects.base import Refusal

hook = HttpHook(HttpHookConfig("http://127.0.0.1:1/", 5.0, 1))
sys.modules["httpx"].AsyncClient = None
there = set(sys.modules)
assert trio.run(hook.identify, "x", lambda: 0.0, 0.0) is Refusal.UNAVAILABLE
print(sorted(name for name in set(sys.modules) - there if name.startswith(("http", "ssl", "anyio"))))
"""


def test_nothing_is_loaded_while_the_first_client_waits() -> None:
    program = [sys.executable, "-c", ASKED_FOR_THE_FIRST_TIME]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "[]\n"


async def asked(hook: HttpHook, token: str = "***") -> Identity | Refusal:
    try:
        return await hook.identify(token, CLOCK, NOW)
    finally:
        await hook.aclose()


async def test_the_hook_is_posted_the_token_and_answers_with_a_uid() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"uid": 1001})

    assert await asked(hook(answer)) == Identity("1001")
    [request] = seen
    assert request.method == "POST"
    assert json.loads(request.content) == {"token": "***"}
    assert request.headers["content-type"] == "application/json"


async def test_a_token_that_no_utf_8_can_say_is_refused_unasked() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nobody is asked")

    assert await asked(hook(answer), "a\ud800") is Refusal.INVALID


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(401),
        httpx.Response(302, headers={"location": "http://127.0.0.1:1/"}),
        httpx.Response(200, text="no json"),
        httpx.Response(200, json=[1001]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"uid": None}),
        httpx.Response(200, json={"uid": True}),
        httpx.Response(200, json={"uid": 1.5}),
        httpx.Response(200, json={"uid": ""}),
        httpx.Response(200, text="[" * 10_000),
        httpx.Response(200, text='{"uid":1,"x":"' + "y" * 70_000 + '"}'),
    ],
    ids=lambda response: f"{response.status_code} {response.text[:20]}",
)
async def test_any_other_answer_of_the_hook_refuses(response: httpx.Response) -> None:
    assert await asked(hook(lambda request: response)) is Refusal.INVALID


async def test_a_server_error_and_a_failed_connection_are_tried_again(autojump_clock: MockClock) -> None:
    attempts = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            return httpx.Response(503)
        if attempts == 2:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"uid": "u-7"})

    assert await asked(hook(answer)) == Identity("u-7")
    assert attempts == 3


async def test_a_hook_that_keeps_failing_is_unavailable(autojump_clock: MockClock) -> None:
    assert await asked(hook(lambda request: httpx.Response(500))) is Refusal.UNAVAILABLE


async def test_a_hook_that_hangs_is_unavailable_when_the_time_is_up(autojump_clock: MockClock) -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await trio.sleep_forever()
            raise AssertionError

    silent = HttpHook(HttpHookConfig("http://127.0.0.1:8000/", timeout_s=2.0), transport=Silent())
    start = trio.current_time()
    assert await asked(silent) is Refusal.UNAVAILABLE
    assert trio.current_time() - start == pytest.approx(2.0)


async def test_a_failing_hook_never_logs_the_token(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"could not send {request.content!r}")

    assert await asked(hook(answer), token="very-secret") is Refusal.UNAVAILABLE
    assert "very-secret" not in caplog.text
    assert "ConnectError" in caplog.text


def test_any_of_several_secrets_verifies_and_no_other() -> None:
    old, new, other = ("o" * 32, "n" * 32, "x" * 32)
    verifier = JwtVerifier(JwtConfig([old, new]))
    for secret in (old, new):
        token = jwt.encode({"account_id": "ada"}, secret, algorithm="HS256")
        assert isinstance(verifier.verify(token, CLOCK, NOW), Identity)
    token = jwt.encode({"account_id": "ada"}, other, algorithm="HS256")
    assert verifier.verify(token, CLOCK, NOW) is Refusal.INVALID


@pytest.mark.parametrize("error", [RecursionError, ValueError, TypeError])
def test_whatever_the_library_raises_is_a_refusal(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions of PyJWT let the RecursionError of a nested header out."""

    def fail(*_: object, **__: object) -> None:
        raise error

    token = signed({"sub": "a"}, "s" * 32)
    mqtt = TokenVerifier(TokenConfig(secrets=("s" * 32,)))
    monkeypatch.setattr(jwt, "decode", fail)
    assert verify(token) is Refusal.INVALID
    assert mqtt.verify(token, CLOCK, NOW) is Refusal.INVALID
    monkeypatch.setattr(jwt, "get_unverified_header", fail)
    assert mqtt.verify(token, CLOCK, NOW) is Refusal.INVALID
