"""The nodes of a cluster, for people."""

from __future__ import annotations

from typing import Any

from broker.cli.tables import print_table
from broker.cluster.status import SILENT_S


def is_silent(node: Any) -> bool:
    """Whether nothing was heard of it for longer than there should be."""
    return bool(node["heard_s"] > SILENT_S)


def show_cluster(answer: Any) -> None:
    """What `rowcast cluster status` prints."""
    log = answer["log"]
    leader = answer["leader"] or "(none)"
    print(f"cluster {answer['cluster']}: leader {leader}, log from {log['first']} to {log['last']}")
    rows = []
    for node in answer["nodes"]:
        silent = f"silent for {node['heard_s']:.0f} s"
        how = silent if is_silent(node) else "; ".join(node["unready"]) or "ready"
        duties = [f"reads {feed}" for feed in node["feeds"]] + ["wills"] * bool(node["publishes_wills"])
        rows.append((
            node["node"] + (" *" if node["here"] else ""),
            how,
            node["clients"],
            node["sessions"],
            node["behind"],
            f"{node['moved_here']}/{node['moved_away']}",
            node["gaps"],
            node["server"] or "-",
            ", ".join(duties) or "-",
        ))  # fmt: skip
    head = ("NODE", "STATE", "CLIENTS", "SESSIONS", "BEHIND", "MOVED IN/OUT", "GAPS", "NATS", "DUTIES")
    print_table(head, rows)
