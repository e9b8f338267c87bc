"""The texts of an acl_file and of a password_file, read at once."""

from __future__ import annotations

from broker.config.steps import finished
from broker.core.acl import Acl
from broker.gateway.acl_file import acl_in_steps
from broker.gateway.passwords import Hash, users_in_steps


def parse_acl(text: bytes, file: str, names_have_slashes: bool = False) -> Acl:
    return finished(acl_in_steps(text, file, names_have_slashes))


def parse_passwords(text: bytes, file: str) -> dict[bytes, Hash]:
    return finished(users_in_steps(text, file))
