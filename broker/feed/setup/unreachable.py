"""What to do where a database can't be connected to, by what the server or libpq says."""

from __future__ import annotations

import re
from typing import Final

from broker.feed.cures import INSTALL
from broker.feed.driver.pooler import refusal_words

_THERE: Final = "is the server running there?  Start it, or correct host and port in the dsn"
_PASSWORD: Final = (
    "correct user and password in the dsn, or give the role a password: ALTER ROLE ... PASSWORD"
)

_CURES: Final = (
    (
        r'role "[^"]*" does not exist',
        f"{INSTALL.removesuffix('`')} --as DSN`, which creates it, with a DSN of somebody who may; or correct the dsn",
    ),
    (r'database "[^"]*" does not exist', "create it (`createdb NAME`), or correct the dsn"),
    (r"password authentication failed|no password supplied", _PASSWORD),
    (
        r"no pg_hba.conf entry|authentication failed",
        "let the server's pg_hba.conf take this host, user and database",
    ),
    (r"is not permitted to log in", "ALTER ROLE ... LOGIN, or correct the dsn"),
    (r"Connection refused|No such file or directory|No route to host|timeout expired", _THERE),
    (r"could not translate host name|Name or service not known|resolve", "correct the host in the dsn"),
    (r"server does not support SSL", "leave sslmode out of the dsn, or let the server have a certificate"),
)
"""In the words of an English server; another's are shown without a cure."""


def connection_cure(error: str, dsn: str) -> str:
    """What would let us connect; "" if these words are not known."""
    if cure := refusal_words(error, dsn):
        return cure
    return next((cure for words, cure in _CURES if re.search(words, error)), "")
