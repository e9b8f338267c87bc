"""The configuration of brokers that random sequences are played to, and how a sequence begins and ends."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from player.manner import Manner, prefix

LIMITS: Final = """\
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 500
"""
"""Without delay: what waits for the acknowledgement of what was sent before would come behind a fence."""
LISTENER: Final = "listener {port} 127.0.0.1\n"
MOUNTED: Final = "listener {{port2{lane}}} 127.0.0.1\nmount_point {prefix}m/\n"
ANYBODY: Final = (
    "topic readwrite {prefix}m/#\ntopic read {prefix}a/#\n",
    "topic readwrite {prefix}m/#\ntopic write {prefix}a/#\n",
)
"""The rules of a lane, and those that it turns to."""
ALICE: Final = ("topic deny {prefix}b\n", "topic deny {prefix}a/b\n")
BOB: Final = ("topic read {prefix}a/#\ntopic write {prefix}b\n", "topic readwrite {prefix}#\n")
LISTENERS: Final = """\
listener {portq} 127.0.0.1
max_qos 1
allow_anonymous true
listener {porta} 127.0.0.1
max_topic_alias 2
allow_anonymous true
listener {porte} 127.0.0.1
allow_zero_length_clientid false
allow_anonymous true
"""
WEBSOCKET: Final = "listener {portw} 127.0.0.1\nprotocol websockets\n"
BY_GROUP: Final = {
    "queue0": "queue_qos0_messages true\n",
    "upgrade": "upgrade_outgoing_qos true\n",
    "noretain": "retain_available false\n",
    "reload": "check_retain_source false\n",
    "restart": "persistence true\npersistence_location {dir}/\n",
}


def configuration(lanes: Sequence[str], manner: Manner) -> tuple[str, dict[str, str]]:
    """The configuration file, and the files that it names.  With rules each lane has a listener with a mount point."""
    conf = LISTENER
    if manner.has("listeners"):
        conf = "per_listener_settings true\n" + conf + "allow_anonymous true\n" + LISTENERS
    if manner.has("websocket"):
        conf += WEBSOCKET + ("allow_anonymous true\n" if manner.has("listeners") else "")
    if manner.with_rules:
        conf += "".join(MOUNTED.format(lane=lane, prefix=prefix(lane)) for lane in lanes)
    limits = LIMITS.replace("allow_anonymous true\n", "") if manner.has("listeners") else LIMITS
    limits += f"max_packet_size {400 if manner.has('small') else 2000000}\n"
    conf += limits + "".join(text for group, text in BY_GROUP.items() if manner.has(group))
    if not manner.with_rules:
        return conf, {}
    return conf + "acl_file {dir}/rules\n", {"rules": rules_of(lanes, frozenset())}


def rules_of(lanes: Sequence[str], turned: Set[str]) -> str:
    """The rules, where some lanes have turned to others."""

    def each(texts: tuple[str, str]) -> str:
        return "".join(texts[lane in turned].format(prefix=prefix(lane)) for lane in lanes)

    return "".join(
        [
            each(ANYBODY),
            "user alice\ntopic readwrite #\n",
            each(ALICE),
            "user bob\n",
            each(BOB),
            "user carol\ntopic readwrite #\npattern readwrite %c/#\n",
        ]
    )


def look(lane: str) -> list[str]:
    """The last steps of each sequence: what is retained by then."""
    below = [] if lane else ["R: subscribe '$x' 2 '$x/+/#' 2"]
    return [f"R: connect id={lane}q clean=1 user=carol", f"R: subscribe '{prefix(lane)}#' 2", *below]


def visitors(lane: str, with_rules: bool) -> list[tuple[str, str]]:
    """Each client id, and the port that it comes to."""
    return [(f"{lane}x", "port"), (f"{lane}y", "port"), (f"{lane}z", "port2" if with_rules else "port")]
