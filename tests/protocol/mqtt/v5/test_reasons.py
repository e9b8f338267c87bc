"""The numbers that hot modules use are those of the reason codes that they are named after."""

from __future__ import annotations

from protocol.mqtt.v5 import reasons
from protocol.mqtt.v5.reasons import ReasonCode


def test_each_number_is_its_reason_code() -> None:
    numbers = {name: value for name, value in vars(reasons).items() if name in ReasonCode.__members__}
    assert len(numbers) >= 3
    assert numbers == {name: int(ReasonCode[name]) for name in numbers}
