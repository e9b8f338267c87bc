"""How this node shows NATS who it is: a name and password, a token, or a JWT and a signature (`nsc`'s file)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.config.cluster import ClusterConfig
from broker.config.files import read_file

_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\s*(\S+)\s*-+END")
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\s*(\S+)\s*-+END")


def options(config: ClusterConfig, url: str, nonce: str) -> dict[str, Any]:
    """What CONNECT says of us to this server.

    Raises:
        OSError, ValueError: the credentials' file can't be used; the text says why, without what is in it.
    """
    said: dict[str, Any] = {"name": f"rowcast {config.node}", "version": "1"}
    parts = urlsplit(url)
    user, password = parts.username, parts.password
    if config.credentials is not None:
        said.update(_signed(read_file(config.credentials).decode(), nonce))
    elif user is not None and password is None:
        said["auth_token"] = unquote(user)  # as NATS' own clients
    elif user is not None:
        said.update({"user": unquote(user), "pass": unquote(password or "")})
    elif config.token:
        said["auth_token"] = config.token
    elif config.user:
        said.update({"user": config.user, "pass": config.password})
    return said


def _signed(text: str, nonce: str) -> dict[str, str]:
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None or seed is None:
        raise ValueError("credentials: a NATS USER JWT and a USER NKEY SEED are wanted, as `nsc` writes them")
    signature = private_key(seed[1]).sign(nonce.encode())
    return {"jwt": jwt[1], "sig": base64.urlsafe_b64encode(signature).decode().rstrip("=")}


def private_key(seed: str) -> Ed25519PrivateKey:
    """The key of a user's seed, `SU...`.  Raises: ValueError."""
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        raise ValueError("credentials: the seed is not base32") from None
    # Two bytes say "seed of a user", 32 are the seed, two its checksum.
    checksum = int.from_bytes(raw[34:], "little")
    if len(raw) != 36 or raw[0] & 0xF8 != 18 << 3 or binascii.crc_hqx(raw[:34], 0) != checksum:
        raise ValueError("credentials: that is no nkey seed")
    return Ed25519PrivateKey.from_private_bytes(raw[2:34])
