"""The configuration of brokers that random sequences are played to, and how a sequence begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LIMITS: Final = """\
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 500
max_packet_size 2000000
"""
"""Without delay: what waits for the acknowledgement of what was sent before would come behind a fence."""
LISTENER: Final = "listener {port} 127.0.0.1\n"
MOUNTED: Final = "listener {{port2{lane}}} 127.0.0.1\nmount_point {lane}/m/\n"
ANYBODY: Final = """\
topic readwrite {lane}/m/#
topic read {lane}/a/#
"""
ALICE: Final = "topic deny {lane}/b\n"
BOB: Final = """\
topic read {lane}/a/#
topic write {lane}/b
"""


def configuration(lanes: Sequence[str], with_rules: bool) -> tuple[str, dict[str, str]]:
    """The configuration file, and the files that it names.  With rules each lane has a listener with a mount point."""
    if not with_rules:
        return LISTENER + LIMITS, {}
    mounted = "".join(MOUNTED.format(lane=lane) for lane in lanes)
    rules = "".join(
        [
            *(ANYBODY.format(lane=lane) for lane in lanes),
            "user alice\ntopic readwrite #\n",
            *(ALICE.format(lane=lane) for lane in lanes),
            "user bob\n",
            *(BOB.format(lane=lane) for lane in lanes),
            "user carol\ntopic readwrite #\npattern readwrite %c/#\n",
        ]
    )
    return LISTENER + mounted + LIMITS + "acl_file {dir}/rules\n", {"rules": rules}


def look(lane: str) -> list[str]:
    """The last steps of each sequence: what is retained by then."""
    return [f"R: connect id={lane}q clean=1 user=carol", f"R: subscribe '{lane}/#' 2"]


def visitors(lane: str, with_rules: bool) -> list[tuple[str, str]]:
    """Each client id, and the port that it comes to."""
    return [(f"{lane}x", "port"), (f"{lane}y", "port"), (f"{lane}z", "port2" if with_rules else "port")]
