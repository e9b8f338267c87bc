"""What a door says to a CONNECT.

Hot: one is made for each, so these are plain classes.
"""

from __future__ import annotations

from typing import TypeAlias

from broker.gateway.authentication import Verdict


class Accepted:
    """Let it in, under this id."""

    def __init__(self, client_id: bytes, verdict: Verdict) -> None:
        self.client_id = client_id
        self.verdict = verdict


class Refused:
    """Say no with this return code [MQTT-3.2.2-5]; `reason` is for the log."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class TurnedAway:
    """Close without an answer, as Mosquitto does where there is no room."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Slow:
    """The answer is meant to take long: compute `Door.verdict_for` where nobody waits for it, then judge with it."""


Judgement: TypeAlias = Accepted | Refused | TurnedAway | Slow
