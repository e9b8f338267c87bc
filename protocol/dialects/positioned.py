"""What a client that gives `since` is told beside what its dialect's document says: where its messages stand."""

from __future__ import annotations

import json

from protocol.dialects.base import json_text
from protocol.json_members import is_json, is_text, members_of

SINCE_CHARACTERS_MAX = 200
"""Positions are a quarter as long."""


def is_since(value: object) -> bool:
    """Whether this can be a position, `now` or `start`."""
    return is_text(value) and len(value) <= SINCE_CHARACTERS_MAX


def place_members(at: str, recovered: bool, reason: str) -> str:
    """The members of an answer that say where the reader is, each behind a comma."""
    members = f',"at":{json_text(at)}' if at else ""
    members += f',"recovered":{"true" if recovered else "false"}'
    return f'{members},"reason":{json_text(reason)}' if reason else members


def with_position(payload: bytes, at: bytes, subscription: str = "") -> bytes:
    """A channel's message as it is, with `at` as its last member, and `subscription` before it if that is given.

    One that has such members of its own, or is no JSON object, stands whole in `message`.
    """
    own = f'"subscription":{json_text(subscription)},"at":"' if subscription else '"at":"'
    place = own.encode() + at + b'"'
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = payload.decode(errors="replace")
    members = members_of(text)
    if members is None or "at" in members or "subscription" in members:
        message = text if is_json(text) else json.dumps(text, ensure_ascii=False)
        return b'{%b,"message":%b}' % (place, message.encode())
    body = text.rstrip()[:-1].rstrip().encode()
    return b"%b%b%b}" % (body, b"," if members else b"", place)
