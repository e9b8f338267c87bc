"""Tokens of whoever may have signed them: several secrets, public keys, and key sets that are read again.

Fails closed: a token that nothing verifies, whatever is wrong with it, is a `Refusal`.  A key set that can't be read
leaves the keys that were read before.  An HMAC secret never verifies a token of another kind, nor a public key an
HMAC, whatever its header says.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import trio
from attrs import frozen

from broker.config.files import read_file
from broker.config.tokens import SECRET_BYTES_MIN, JwtConfig, TokenConfig
from broker.core.barrier import barrier
from broker.core.counters import Counters
from broker.gateway.identity import MALFORMED, SIGNATURE_ONLY, TOKEN_BYTES_MAX, JwtVerifier, identity_of
from protocol.dialects.base import Clock, Identity, Refusal
from protocol.mistakes import NO_OPTION

logger = logging.getLogger("broker.gateway")

HMAC: Final = ("HS256", "HS384", "HS512")
PUBLIC: Final = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""Algorithms by the `kty` of a key (RFC 7518 §3.1, RFC 8037)."""


JWKS_BYTES_MAX: Final = 256 * 1024
JWKS_TIMEOUT_S: Final = 5.0
UNREADABLE: Final = (OSError, ValueError)
"""What asking an address for a key set raises."""

UNKNOWN_KEY_PAUSE_S: Final = 10.0
"""A token with a made-up `kid` makes us ask for the key set no more often than this."""


class UnusableKey(Exception):
    """A key or a key set can't be used.  `option` names its file, as `Mistake.option` does."""

    def __init__(self, text: str, option: tuple[str, str] = NO_OPTION) -> None:
        super().__init__(text)
        self.option = option


@frozen
class PublicKey:
    """One key, the algorithms that it may verify, and its name; "" if it has none."""

    key: Any
    algorithms: tuple[str, ...]
    kid: str = ""


def keys_in(text: bytes) -> list[PublicKey]:
    """The signing keys of a JWKS (RFC 7517); those that we have no use for are left out.

    Raises:
        UnusableKey: it is none, or holds no key that can be used.
    """
    try:
        members = json.loads(text)["keys"]
        if not isinstance(members, list):
            raise TypeError
        found = [key for member in members if (key := _public_key(member)) is not None]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnusableKey("it is no JWKS: an object with `keys` is wanted") from None
    if not found:
        raise UnusableKey("it holds no public key for signatures")
    return found


def _public_key(member: object) -> PublicKey | None:
    if not isinstance(member, dict):
        return None
    kind = member.get("kty")
    if kind not in PUBLIC or member.get("use", "sig") != "sig" or "d" in member:
        return None
    algorithms = PUBLIC[kind]
    named = member.get("alg")
    if named is not None:
        if named not in algorithms:
            return None
        algorithms = (named,)
    import jwt

    try:
        made = jwt.PyJWK(member, algorithms[0] if kind != "EC" else None)
    except (jwt.PyJWTError, *MALFORMED):
        return None
    return PublicKey(made.key, algorithms, str(member.get("kid", "")))


def key_in_pem(text: bytes) -> PublicKey:
    """A public key from a PEM file.  Raises: UnusableKey."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("it holds no public key in PEM") from None
    if isinstance(key, rsa.RSAPublicKey):
        return PublicKey(key, PUBLIC["RSA"])
    return PublicKey(key, PUBLIC["EC"] if isinstance(key, ec.EllipticCurvePublicKey) else PUBLIC["OKP"])


def _why(error: Exception) -> str:
    """In words, without the path, which stands in front of them."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


class TokenVerifier(JwtVerifier):
    """Verifies the tokens of one `TokenConfig`.

    Raises:
        UnusableKey: a key file can't be used, when it is made.
    """

    def __init__(self, config: TokenConfig) -> None:
        super().__init__(
            JwtConfig(
                secret="",
                account_claim="sub",
                require=config.require,
                audience=config.audience,
                issuer=config.issuer,
            )
        )
        import jwt  # noqa: F401 - now, and not while the first client waits

        self.config = config
        self._fixed: list[PublicKey] = []
        self._fetched: list[PublicKey] = []
        self._asked_at = -float("inf")
        self._asking = trio.Lock()
        self.wanted = False
        """A token names a key that is not known."""
        self._secrets = list(config.secrets)
        for path in config.secret_files:
            option = ("secret_files", str(path))
            try:
                found = [line for line in read_file(path).decode("utf-8-sig").split("\n") if line]
            except (OSError, UnicodeDecodeError) as error:
                text = f"Unable to use the secrets in {path}: {_why(error)}."
                raise UnusableKey(text, option) from None
            if not found:
                raise UnusableKey(f"There is no secret in {path}: write one into each line.", option)
            self._secrets += found
            if any(len(secret.encode()) < SECRET_BYTES_MIN for secret in self._secrets):
                raise UnusableKey(f"A secret in {path} has fewer than {SECRET_BYTES_MIN} bytes.", option)
        for path in config.keys:
            try:
                self._fixed.append(key_in_pem(read_file(path)))
            except (OSError, UnusableKey) as error:
                text = f"Unable to use the key {path}: {_why(error)}."
                raise UnusableKey(text, ("keys", str(path))) from None
        if config.jwks_file is not None:
            try:
                self._fetched = keys_in(read_file(config.jwks_file))
            except (OSError, UnusableKey) as error:
                text = f"Unable to use {config.jwks_file}: {_why(error)}."
                raise UnusableKey(text, ("jwks_file", str(config.jwks_file))) from None

    def verify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        if len(token) > TOKEN_BYTES_MAX:
            return Refusal.INVALID
        import jwt

        header = _header(token)
        if header is None:
            return Refusal.INVALID
        algorithm, kid = header
        for key, algorithms in self._candidates(algorithm, kid):
            try:
                claims = jwt.decode(token, key, algorithms=algorithms, options=SIGNATURE_ONLY)  # type: ignore[arg-type]
            except (jwt.PyJWTError, *MALFORMED):
                continue
            return identity_of(claims, self._config, clock, now)
        self.wanted = algorithm not in HMAC
        return Refusal.INVALID

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        if self.must_ask(token):
            await self.refresh(if_before=now - UNKNOWN_KEY_PAUSE_S)
            now = trio.current_time()
        return self.verify(token, clock, now)

    def look(self) -> None:
        """Read the key sets now.  Blocks.  Raises: UnusableKey."""
        if self.config.jwks_url:
            try:
                self._fetched = self._read()
            except UNREADABLE as error:
                raise UnusableKey(f"{self.config.jwks_url} can't be read: {error}") from None

    def must_ask(self, token: str) -> bool:
        """Whether a token's key is unknown, and asking for the key set again may find it."""
        if not self.config.jwks_url or len(token) > TOKEN_BYTES_MAX:
            return False
        header = _header(token)
        if header is None or header[0] in HMAC:
            return False
        if self._candidates(*header):
            return False
        return trio.current_time() - self._asked_at > UNKNOWN_KEY_PAUSE_S

    def _candidates(self, algorithm: str, kid: str) -> list[tuple[Any, list[str]]]:
        if algorithm in HMAC:
            return [(secret, list(HMAC)) for secret in self._secrets]
        usable = [key for key in (*self._fixed, *self._fetched) if algorithm in key.algorithms]
        return [(key.key, [algorithm]) for key in usable if not (kid and key.kid) or key.kid == kid]

    # --- key sets that are read again ----------------------------------------------------------------------

    async def keep_fresh(self, counters: Counters) -> None:
        """Read the key sets every `jwks_refresh_s`, and when a key was wanted that is not known; until cancelled."""
        config = self.config
        while config.jwks_url or config.jwks_file is not None:
            age_s = trio.current_time() - self._asked_at
            if age_s >= config.jwks_refresh_s or (self.wanted and age_s > UNKNOWN_KEY_PAUSE_S):
                self.wanted = False
                with barrier(counters, f"the key set {config.jwks_url or config.jwks_file}"):
                    await self.refresh()
            await trio.sleep(min(1.0, config.jwks_refresh_s))

    async def refresh(self, if_before: float = float("inf")) -> None:
        """Read the key sets again, unless that was done after `if_before`, or is failing: then the old ones stay."""
        async with self._asking:
            if self._asked_at > if_before:
                return
            self._asked_at = trio.current_time()
            try:
                self._fetched = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            except (*UNREADABLE, UnusableKey) as error:
                where = self.config.jwks_url or self.config.jwks_file
                logger.warning("The keys of %s stay as they were: %s", where, error)

    def _read(self) -> list[PublicKey]:
        found: list[PublicKey] = []
        if self.config.jwks_file is not None:
            found += keys_in(read_file(self.config.jwks_file))
        if self.config.jwks_url:
            text = _fetch(self.config.jwks_url)
            if len(text) > JWKS_BYTES_MAX:
                raise UnusableKey(f"it is longer than {JWKS_BYTES_MAX} bytes")
            found += keys_in(text)
        return found


def _fetch(url: str) -> bytes:
    """The answer of an address, one byte more than it may have at most.  Raises: OSError, ValueError."""
    import urllib.request
    from http.client import HTTPException

    try:
        with urllib.request.urlopen(url, timeout=JWKS_TIMEOUT_S) as response:
            found: bytes = response.read(JWKS_BYTES_MAX + 1)
            return found
    except HTTPException as error:  # some answers are no HTTP
        raise OSError(str(error)) from error


def _header(token: str) -> tuple[str, str] | None:
    """Algorithm and key name that a token claims; None if it has no header of a token."""
    import jwt

    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, *MALFORMED):
        return None
    algorithm, kid = header.get("alg"), header.get("kid", "")
    return (algorithm, kid) if isinstance(algorithm, str) and isinstance(kid, str) else None
