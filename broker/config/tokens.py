"""What a configuration says about tokens, as values: who may have signed them, or who is asked whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import field, frozen

SECRET_BYTES_MIN: Final = 32
"""Of a secret for HS256 [RFC 7518 §3.2]."""


def one_or_more(value: str | Iterable[str]) -> tuple[str, ...]:
    """One text, or several."""
    return (value,) if isinstance(value, str) else tuple(value)


@frozen
class TokenConfig:
    """[tokens]: who may have signed a token, whatever protocol it is shown in.

    `secrets` are for HS256, `keys` and the two JWKS for algorithms with a public key.  A token is good if any of
    them verifies it, so that one can be changed while tokens of the other are about.
    """

    secrets: tuple[str, ...] = field(default=(), repr=False)
    keys: tuple[Path, ...] = ()
    """PEM files, a public key each."""
    secret_files: tuple[Path, ...] = ()
    """Files with a secret in each line, as mosquitto.conf names them."""
    jwks_file: Path | None = None
    jwks_url: str = ""
    jwks_refresh_s: float = 300.0
    """How often keys are read again; one that a token names and that is not known, at once."""
    require: tuple[str, ...] = ()
    """Claims that a token must have, of those that RFC 7519 §4.1 registers."""
    audience: str = ""
    """What `aud` must be or hold; "" does not look at it."""
    issuer: str = ""
    """What `iss` must be; "" does not look at it."""

    @property
    def is_set(self) -> bool:
        """Whether there is a key with which a token could be verified."""
        return bool(self.secrets or self.secret_files or self.keys or self.jwks_file or self.jwks_url)


@frozen
class JwtConfig:
    """How a dialect's tokens are verified.

    `secret` are the keys themselves, never references to them; a token that one of them verifies is good, so that a
    new one can be added before the old one goes.
    """

    secret: tuple[str, ...] = field(repr=False, converter=one_or_more)
    algorithms: tuple[str, ...] = ("HS256",)
    mode_claim: str = "mode"
    channels_claims: tuple[str, ...] = ("channels", "channel")
    account_claim: str = "account_id"
    """Whose token it is: text or an integer."""
    roles_claim: str = "roles"
    """What its bearer may do beyond that: text separated by spaces, or a list."""
    require: tuple[str, ...] = field(default=(), converter=one_or_more)
    """Claims that a token must have, of those that RFC 7519 §4.1 registers."""
    audience: str = ""
    """What `aud` must be or hold; "" does not look at it."""
    issuer: str = ""
    """What `iss` must be; "" does not look at it."""


@frozen
class HttpHookConfig:
    """An HTTP endpoint that knows tokens: `POST {"token": …}` is answered by `{"uid": …}`."""

    url: str
    timeout_s: float = 5.0
    """For one login with all its attempts."""
    attempts: int = 3
