"""How sequences are drawn and played: with rules or without, and which groups of wider draws.

Without groups a seed draws what it always drew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROUPS: Final = {
    "root": "names at the root of the tree, and below `$`; each sequence has a pair of brokers for itself",
    "bytes": "several packets in a segment, packets in pieces, connections half closed or reset",
    "five": "properties of 5.0: right ones, too many, of the wrong packet, too long; reason codes, AUTH",
    "share": "shared subscriptions of one member",
    "listeners": "listeners with max_qos, max_topic_alias, without empty client ids",
    "websocket": "clients over WebSocket, with frames of many kinds",
    "slow": "clients that do not read for a while",
    "queue0": "queue_qos0_messages",
    "upgrade": "upgrade_outgoing_qos",
    "noretain": "retain_available false",
    "small": "max_packet_size 400",
    "restart": "the brokers stop and start again with what they have saved",
    "reload": "rules that change, and SIGHUP (with --rules)",
}
"""Each with what it draws or configures."""


@dataclass(frozen=True)
class Manner:
    """What a sequence needs beyond its seed to be drawn again."""

    with_rules: bool = False
    groups: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.groups - GROUPS.keys():
            raise ValueError(f"no group of draws: {', '.join(sorted(unknown))}")
        if "reload" in self.groups and not self.with_rules:
            raise ValueError("reload needs rules")
        if {"reload", "restart"} <= self.groups:
            raise ValueError("reload and restart hold all lanes, each for itself")
        if {"listeners"} <= self.groups and self.with_rules:
            raise ValueError("the listeners have no rules")

    def has(self, group: str) -> bool:
        return group in self.groups

    @property
    def is_at_root(self) -> bool:
        """Whether names have no lane in front, so that a sequence needs brokers for itself."""
        return "root" in self.groups


NARROW: Final = Manner()
"""As seeds have always been played."""


def prefix(lane: str) -> str:
    """What begins every name of a lane; a lane without a name is the root of the tree."""
    return f"{lane}/" if lane else ""
