"""What a door says to a CONNECT."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from broker.gateway.authentication import Verdict


@frozen
class Accepted:
    """Let it in, under this id."""

    client_id: bytes
    verdict: Verdict


@frozen
class Refused:
    """Say no with this return code [MQTT-3.2.2-5]; `reason` is for the log."""

    code: int
    reason: str


@frozen
class TurnedAway:
    """Close without an answer, as Mosquitto does where there is no room."""

    reason: str


@frozen
class Slow:
    """The answer is meant to take long: compute `Door.verdict_for` where nobody waits for it, then judge with it."""


Judgement: TypeAlias = Accepted | Refused | TurnedAway | Slow
