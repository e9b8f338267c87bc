"""[tokens] of a TOML configuration."""

from __future__ import annotations

import os
from importlib.util import find_spec

from broker.config.tokens import TokenConfig
from broker.config.toml.checks import check_required_claims, check_secret
from broker.config.toml.document import Document
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, Unresolved


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
