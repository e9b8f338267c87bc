"""Checks of single values of a TOML configuration.  Each notes a mistake with the reader, or does nothing."""

from __future__ import annotations

import re
from collections.abc import Collection

from broker.config.mount_points import ends_within_a_level, within_a_level
from broker.config.tokens import SECRET_BYTES_MIN
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, Unresolved, label
from protocol.mqtt.reserved import CHANNEL_PREFIX, SHARE_PREFIX
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name
from protocol.port import NONE, port_of

SHARED_SECRET_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})
KNOWN_ALGORITHMS = SHARED_SECRET_ALGORITHMS | {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}

REGISTERED_CLAIMS = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti")
"""RFC 7519 §4.1."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's; it says so only when it connects."""

_JSON_PATH = re.compile(r"\$(\.[^.\[\]*?@$ ]+)+")
_ARRAY_PATH = re.compile(r"\$(\.[^.\[\]*?@$ ]+|\[(-?[1-9]\d{0,5}|0)\])+")
_STEP = re.compile(r"\.?([^.\[\]$]+|\[-?\d+\])")
_NAME = re.compile(r"[a-z0-9_]{1,40}")


def check_choice(reader: Reader, path: Path, value: str | None, choices: Collection[str]) -> None:
    """Note a value that is none of the words wanted; None is no value."""
    if value is not None and value not in choices:
        wanted = " or ".join(f'"{choice}"' for choice in choices)
        reader.wrong(path, f'{label(path)}: {wanted} is wanted, not "{value}"')


def check_mount_point(reader: Reader, path: Path, prefix: str) -> None:
    """What stands in front of every topic of a listener; with a wildcard its clients would read others' topics."""
    if prefix and not is_valid_topic_name(prefix.encode()):
        reader.wrong(
            path, 'mount_point: a topic without + and # is wanted, of at most 200 slashes, as "site/1/"'
        )
    elif ends_within_a_level(prefix):
        reader.warn(f"{reader.where(path)}: {within_a_level(prefix)}")


def check_name(reader: Reader, path: Path, name: str) -> None:
    """A name that becomes part of a replication slot's name and of a topic."""
    if not _NAME.fullmatch(name):
        reader.wrong(path, f"{label(path)}: 1 to 40 of a-z, 0-9 and _ are wanted")


def check_dsn(reader: Reader, path: Path, dsn: str) -> None:
    """libpq says what is wrong, but it quotes the text, passwords included; so only a hint."""
    if isinstance(dsn, Unresolved):
        return
    if not dsn.strip():
        reader.wrong(
            path, "dsn: it is empty, so no database is named: postgres://USER@HOST/DATABASE is wanted"
        )
        return
    import psycopg  # not needed by whoever has no database
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = conninfo_to_dict(dsn)
        for port in str(found.get("port") or "").split(","):
            if port and port_of(port) < 1:
                reader.wrong(path, f"dsn: port: 1 to 65535 is wanted, not {port[:20]}")
        mode = found.get("sslmode")
        if mode is not None and mode not in SSL_MODES:
            wanted = " or ".join(SSL_MODES)
            reader.wrong(path, f"dsn: sslmode: {wanted} is wanted, not {str(mode)[:20]}")
    except psycopg.ProgrammingError:
        wanted = 'postgres://USER@HOST/DATABASE or "host=HOST dbname=DATABASE" is wanted'
        reader.wrong(path, f"dsn: {wanted}, with no other parameters than libpq's")


def with_password(reader: Reader, path: Path, dsn: str, password: str) -> str:
    """The connection string with a password that stands beside it; unchanged where there is none, or a mistake."""
    if not password or isinstance(password, Unresolved) or isinstance(dsn, Unresolved):
        return dsn
    import psycopg  # not needed by whoever has no database
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        if "password" in conninfo_to_dict(dsn):
            reader.wrong(path, "password: there is one in the dsn, too: leave one of them out")
            return dsn
        return make_conninfo(dsn, password=password)
    except psycopg.ProgrammingError:
        return dsn  # said of the dsn


def check_secret(reader: Reader, path: Path, secret: str) -> None:
    """Note a secret that is too short to be one."""
    if not isinstance(secret, Unresolved) and len(secret.encode()) < SECRET_BYTES_MIN:
        reader.wrong(
            path,
            f"secret: at least {SECRET_BYTES_MIN} bytes are wanted, such as `openssl rand -hex 32` prints",
        )


def check_required_claims(reader: Reader, path: Path, claims: Collection[str]) -> None:
    """A claim that is misspelled would keep everybody out."""
    for claim in claims:
        if claim not in REGISTERED_CLAIMS:
            wanted = " or ".join(f'"{name}"' for name in REGISTERED_CLAIMS)
            reader.wrong(path, f'require: {wanted} is wanted, not "{claim}"')


def check_algorithms(reader: Reader, path: Path, algorithms: Collection[str]) -> None:
    """What tokens may be signed with; `none` never."""
    import jwt  # not needed by whoever has no tokens

    if not algorithms:
        reader.wrong(path, 'alg: at least one is wanted, such as "HS256"')
    if set(algorithms) & SHARED_SECRET_ALGORITHMS and set(algorithms) - SHARED_SECRET_ALGORITHMS:
        # A public key is no secret: whoever has it could sign with it.
        reader.wrong(path, "alg: HS256 and its like can't be mixed with algorithms that take a public key")
    for algorithm in algorithms:
        if algorithm == "none" or algorithm not in KNOWN_ALGORITHMS:
            wanted = " or ".join(f'"{name}"' for name in sorted(KNOWN_ALGORITHMS))
            reader.wrong(path, f'alg: {wanted} is wanted, not "{algorithm}"')
        elif algorithm not in jwt.algorithms.get_default_algorithms():
            reader.wrong(path, f"alg: {algorithm} needs the package cryptography, which is not installed")


def check_replacement(reader: Reader, path: Path, value: str | None, words: Collection[str]) -> None:
    """A policy: one of the words, or text that may stand as a topic level."""
    if value is None or value in words:
        return
    if "/" in value or not is_valid_topic_name(value.encode(errors="replace")):
        wanted = " or ".join(f'"{word}"' for word in words)
        reader.wrong(
            path, f"{label(path)}: {wanted} is wanted, or text to use instead, without / + # and not empty"
        )


def json_path_through_arrays(reader: Reader, path: Path, text: str) -> tuple[str, ...]:
    """`$.data[0]` to `("data", "[0]")`, `$[-1]` to `("[-1]",)`; "" to nothing."""
    if text in ("", "$"):
        return ()
    if not _ARRAY_PATH.fullmatch(text):
        reader.wrong(
            path,
            f"{label(path)}: $ and keys with a point before each are wanted, and places in arrays in brackets,"
            ' such as "$.data[0]"',
        )
        return ()
    return tuple(_STEP.findall(text))


def json_path(reader: Reader, path: Path, text: str) -> tuple[str, ...]:
    """`$.channel` to `("channel",)`; "" to nothing."""
    if text in ("", "$"):
        return ()
    if not _JSON_PATH.fullmatch(text):
        reader.wrong(
            path, f'{label(path)}: $ and keys with a point before each are wanted, such as "$.channel"'
        )
        return ()
    return tuple(text.split(".")[1:])


def address_of(reader: Reader, path: Path, text: str) -> tuple[str, int]:
    """`HOST:PORT`, or a port alone, which is on loopback."""
    host, _, port = text.rpartition(":")
    if port_of(port) == NONE:
        reader.wrong(path, f'{label(path)}: "HOST:PORT" is wanted, such as "127.0.0.1:7001", or a port')
        return "127.0.0.1", 0
    return host.strip("[]") or "127.0.0.1", port_of(port)


def check_filters(
    reader: Reader, path: Path, filters: tuple[str, ...], besides: tuple[bytes, ...] = ()
) -> None:
    """Note every text that is no topic filter for clients, but for those that begin with one of `besides`."""
    for index, text in enumerate(filters):
        name = text.encode(errors="replace")
        if isinstance(text, Unresolved):
            continue
        is_ours = name.startswith((SHARE_PREFIX, CHANNEL_PREFIX)) and not name.startswith(besides)
        if not is_valid_topic_filter(name) or is_ours:
            what = f'{label(path)}: a topic filter is wanted, such as "orders/#", not "{text}"'
            reader.wrong((*path, index), what)
