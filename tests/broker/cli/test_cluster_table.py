"""The nodes of a cluster, for people: who is silent, what a node lacks, and what it does for the others."""

from __future__ import annotations

from typing import Any

import pytest

from broker.cli.cluster_table import is_silent, show_cluster
from broker.cluster.status import SILENT_S


def node(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "node": name, "here": False, "heard_s": 0.0, "unready": [], "feeds": [], "publishes_wills": False,
        "clients": 3, "sessions": 5, "behind": 0, "moved_here": 1, "moved_away": 2, "gaps": 0, "server": "nats:4222",
        **changes,
    }  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], *nodes: dict[str, Any], leader: str = "n1") -> list[list[str]]:
    show_cluster({"cluster": "c", "leader": leader, "log": {"first": 1, "last": 9}, "nodes": list(nodes)})
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"cluster c: leader {leader or '(none)'}, log from 1 to 9"
    return [[cell for cell in line.split("  ") if cell] for line in lines[1:]]


def test_each_node_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, node("n1", here=True), node("n2"), leader="")
    stripped = [[cell.strip() for cell in line] for line in lines]
    assert stripped == [
        ["n1 *", "ready", "3", "5", "0", "1/2", "0", "nats:4222", "-"],
        ["n2", "ready", "3", "5", "0", "1/2", "0", "nats:4222", "-"],
    ]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"unready": ["one", "two"]}, "one; two"),
        ({"heard_s": SILENT_S}, "ready"),
        ({"heard_s": SILENT_S + 1, "unready": ["one"]}, f"silent for {SILENT_S + 1:.0f} s"),
    ],
)
def test_a_node_of_which_nothing_is_heard_says_nothing_else(
    changes: dict[str, Any], state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ((_, found, *_),) = shown(capsys, node("n", **changes))
    assert found.strip() == state
    assert is_silent(node("n", **changes)) == state.startswith("silent")


@pytest.mark.parametrize(
    ("changes", "duties"),
    [
        ({}, "-"),
        ({"publishes_wills": True}, "wills"),
        ({"feeds": ["a", "b"]}, "reads a, reads b"),
        ({"feeds": ["a"], "publishes_wills": True}, "reads a, wills"),
    ],
)
def test_what_a_node_does_for_the_others(
    changes: dict[str, Any], duties: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = shown(capsys, node("n", **changes))
    assert line[-1].strip() == duties


def test_a_node_without_a_server_has_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = shown(capsys, node("n", server=""))
    assert line[-2].strip() == "-"
