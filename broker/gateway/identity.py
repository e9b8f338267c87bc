"""Who presents a token: verified here (JWT), or asked of somebody else's HTTP endpoint (the hook).

Fails closed: whatever is malformed, late or unexpected is a `Refusal`, never an identity and never an
exception.  Tokens are never logged.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from broker.config.tokens import HttpHookConfig, JwtConfig
from protocol.dialects.base import NEVER, Clock, Identity, Refusal

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("broker.gateway")

TOKEN_BYTES_MAX: Final = 8192
"""A longer token is refused unread; nginx and Apache take no longer header line either."""

HOOK_RESPONSE_BYTES_MAX: Final = 64 * 1024

HOOK_CONCURRENT_MAX: Final = 64
"""Questions in flight to the hook; further logins wait for their turn."""

HOOK_SHARE_MAX: Final = 16
"""Of clients from one address."""

SIGNATURE_ONLY: Final = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""`exp` and `nbf` are checked here, against the connection's own clock; `aud` and `iss`, too."""


MALFORMED: Final = (ValueError, TypeError, RecursionError)
"""What PyJWT lets out of some malformed tokens; older versions the last one, too."""


class Identifier(Protocol):
    """Answers who a token belongs to."""

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        """Whose token this is, `now` in monotonic seconds, or why nobody comes in with it."""


class JwtVerifier:
    """Verifies tokens with a shared secret or a public key; needs no I/O."""

    def __init__(self, config: JwtConfig) -> None:
        import jwt  # noqa: F401 - now, and not while the first client waits

        self._config = config

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        """As `verify`: nobody has to be asked."""
        return self.verify(token, clock, now)

    def verify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        """Check signature, `exp` and `nbf`.

        Args:
            token: as presented; any text.
            clock, now: what time it is; `expires_at` of the answer is on the same monotonic scale as `now`.

        Returns:
            The identity; its account is "" if the token doesn't name one as text or as an integer.
        """
        if len(token) > TOKEN_BYTES_MAX:
            return Refusal.INVALID
        claims = self._claims(token)
        if claims is None:
            return Refusal.INVALID
        return identity_of(claims, self._config, clock, now)

    def _claims(self, token: str) -> dict[str, Any] | None:
        """What the token says, if one of the secrets verifies it."""
        import jwt

        for secret in self._config.secret:
            try:
                return jwt.decode(
                    token,
                    secret,
                    algorithms=list(self._config.algorithms),
                    options=SIGNATURE_ONLY,  # type: ignore[arg-type]
                )
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, *MALFORMED):
                return None
        return None


def identity_of(claims: Mapping[str, Any], config: JwtConfig, clock: Clock, now: float) -> Identity | Refusal:
    """Who a token with a good signature belongs to, if it is valid at this time; see `JwtVerifier.verify`."""
    if not _is_for_us(claims, config):
        return Refusal.INVALID
    utc_s = clock.utc_s(now)
    expires = _instant(claims, "exp")
    not_before = _instant(claims, "nbf")
    if expires is None or not_before is None:
        return Refusal.INVALID
    if expires <= utc_s:
        return Refusal.EXPIRED
    if not_before != NEVER and not_before > utc_s:
        return Refusal.NOT_YET_VALID
    return Identity(
        account=account_text(claims.get(config.account_claim)) or "",
        roles=_roles(claims.get(config.roles_claim)),
        expires_at=expires - clock.utc_offset_s if expires != NEVER else NEVER,
        claims=claims,
    )


def _is_for_us(claims: Mapping[str, Any], config: JwtConfig) -> bool:
    """Whether it has what is required, and is from whom and for whom it should be."""
    if any(claims.get(name) is None for name in config.require):
        return False
    if config.issuer and claims.get("iss") != config.issuer:
        return False
    if not config.audience:
        return True
    audience = claims.get("aud")
    return config.audience in (audience if isinstance(audience, list) else [audience])


def account_text(value: object) -> str | None:
    """An account's id, which may be given as text or as an integer; None if it is neither, or empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 §2), NEVER if it is absent, None if it is no finite number."""
    value = claims.get(name)
    if value is None:
        return NEVER
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        instant = float(value)
    except OverflowError:  # an integer beyond any float
        return None
    return instant if math.isfinite(instant) else None


def _roles(value: object) -> frozenset[str]:
    """One role as text, several separated by spaces, or a list."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()


class HttpHook:
    """Asks an HTTP endpoint: `POST {"token": …}`, answered by 200 and `{"uid": …}`, and until when that is so.

    A 5xx, a failed connection and a silent server are asked again until the attempts or the time are used up.
    Any other answer is a refusal at once.
    """

    def __init__(self, config: HttpHookConfig, transport: httpx.AsyncBaseTransport | None = None) -> None:
        import httpx  # now, and not while the first client waits, and all others; so is its client made

        self._config = config
        self._client = httpx.AsyncClient(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=HOOK_CONCURRENT_MAX),
        )
        self._slots = trio.CapacityLimiter(HOOK_CONCURRENT_MAX)

    def adopt(self, config: HttpHookConfig) -> None:
        """Ask as this says from now on; a login that has begun ends as it began."""
        self._config = config

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        """Ask the hook whose token this is.

        One longer than TOKEN_BYTES_MAX is refused unasked, and so is one that no UTF-8 can say.
        """
        if len(token) > TOKEN_BYTES_MAX or not _is_utf_8(token):
            return Refusal.INVALID
        config = self._config
        with trio.move_on_after(config.timeout_s):
            async with self._slots:
                found = await self._ask_until_answered(config, token)
            return found if isinstance(found, Refusal) else identity_in(found, clock, trio.current_time())
        logger.warning("login hook %s did not answer within %g s", config.url, config.timeout_s)
        return Refusal.UNAVAILABLE

    async def aclose(self) -> None:
        """Close the connections to the hook."""
        await self._client.aclose()

    async def _ask_until_answered(self, config: HttpHookConfig, token: str) -> bytes | Refusal:
        import httpx

        problem = ""
        for attempt in range(config.attempts):
            if attempt:
                await trio.sleep(min(0.1 * 2**attempt, 1.0))
            try:
                answer = await self._ask(config, token)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                # The class alone: a message of httpx may quote what was sent.
                problem = type(error).__name__
                continue
            if isinstance(answer, int):
                problem = f"status {answer}"
                continue
            return answer
        logger.warning("login hook %s failed %d times: %s", config.url, config.attempts, problem)
        return Refusal.UNAVAILABLE

    async def _ask(self, config: HttpHookConfig, token: str) -> bytes | Refusal | int:
        """One request: the body of an answer.  An integer is a status that is worth another attempt."""
        request = self._client.stream("POST", config.url, json={"token": token}, timeout=config.timeout_s)
        async with request as response:
            if response.status_code >= 500:
                return response.status_code
            if response.status_code != 200:
                return Refusal.INVALID
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > HOOK_RESPONSE_BYTES_MAX:
                    return Refusal.INVALID
        return body


def _is_utf_8(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON may have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def identity_in(body: bytes, clock: Clock, now: float) -> Identity | Refusal:
    """What a hook's answer says: `{"uid": 1001}`, the uid an integer or text.

    `exp` says until when, in Unix seconds, `expires_in` for how many seconds from now; the earlier one holds.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal.INVALID
    if not isinstance(answer, dict):
        return Refusal.INVALID
    account = account_text(answer.get("uid"))
    instant, seconds = _instant(answer, "exp"), _instant(answer, "expires_in")
    if account is None or instant is None or seconds is None:
        return Refusal.INVALID
    expires_at = min(instant - clock.utc_offset_s, now + seconds)
    return Refusal.EXPIRED if expires_at <= now else Identity(account, expires_at=expires_at)
