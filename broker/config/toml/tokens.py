"""[tokens] and [[history]] of a TOML configuration."""

from __future__ import annotations

import os
from importlib.util import find_spec

from broker.config.history import HistoryRule
from broker.config.tokens import TokenConfig
from broker.config.toml.checks import check_required_claims, check_secret
from broker.config.toml.document import Document, array_of
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, Unresolved, label
from protocol.mqtt.reserved import CHANNEL_PREFIX, SHARE_PREFIX
from protocol.mqtt.topics import is_valid_topic_filter


def read_tokens(reader: Reader, document: Document) -> TokenConfig:
    """[tokens], or none."""
    if "tokens" not in document:
        return TokenConfig()
    path: Path = ("tokens",)
    found = reader.structure(document["tokens"], TokenConfig, path)
    if found is None:
        return TokenConfig()
    check_required_claims(reader, (*path, "require"), found.require)
    for index, secret in enumerate(found.secrets):
        check_secret(reader, (*path, "secrets", index), secret)
    for name, files in (("keys", found.keys), ("jwks_file", (found.jwks_file,))):
        for file in files:
            if file is not None and not os.path.exists(file):
                reader.wrong((*path, name), f"{name}: there is no {file}")
    url = found.jwks_url
    if url and not isinstance(url, Unresolved) and not url.startswith(("https://", "http://")):
        wanted = 'an address is wanted, such as "https://id.example/.well-known/jwks.json"'
        reader.wrong((*path, "jwks_url"), f"jwks_url: {wanted}; for a file there is jwks_file")
    if not found.is_set:
        reader.wrong(path, "tokens: name what verifies them: secrets, keys, jwks_file or jwks_url")
    elif not found.secrets and find_spec("cryptography") is None:
        wanted = "public keys need the package cryptography: pip install cryptography"
        reader.wrong(path, f"tokens: {wanted}")
    if found.jwks_refresh_s < 1:
        reader.wrong((*path, "jwks_refresh"), "jwks_refresh: at least 1s is wanted")
    return found


CHANNELS = (CHANNEL_PREFIX + b"exchange/", CHANNEL_PREFIX + b"canton/")
"""Channels of which a client can say from where on it wants all."""


def history_rules(reader: Reader, document: Document) -> tuple[HistoryRule, ...]:
    """Every [[history]]."""
    found = []
    for index, value in enumerate(array_of(reader, document, "history")):
        path: Path = ("history", index)
        rule = reader.structure(value, HistoryRule, path)
        if rule is None:
            continue
        check_filters(reader, (*path, "topics"), rule.topics, CHANNELS)
        if not rule.topics:
            reader.wrong((*path, "topics"), "topics: at least one topic filter is wanted")
        if rule.count < 1 or rule.size_bytes < 1 or rule.age_s <= 0:
            reader.wrong(path, "history: count, size and age must be above 0: leave [[history]] out for none")
        if rule.source_count < 0:
            reader.wrong((*path, "source_count"), "source_count: 0 or more is wanted; 0 reads nothing again")
        found.append(rule)
    return tuple(found)


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
