"""The JavaScript client in a Node of its own, driven as the Python client's core is."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define

HARNESS = Path(__file__).parents[1] / "clients/harness.mjs"
TABS_HARNESS = HARNESS.with_name("tabs_harness.mjs")


def is_there() -> bool:
    return shutil.which("node") is not None


@define
class NodeSubscription:
    topic: str
    at: str | None = None
    phase: str = "offline"


class NodeClient:
    """One `Rowcast` object.  Its events are `(topic, kind, value)`."""

    def __init__(self, *program: str) -> None:
        self._node = subprocess.Popen(
            ["node", *(program or (str(HARNESS),))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.subscriptions: dict[str, NodeSubscription] = {}
        self.stopped = None
        self.has_lost = False
        """It has given its connection up by itself."""
        self._sent: list[str] = []

    def subscribe(self, topic: str, since: str | None = None, *, state: bool = False) -> None:
        self.subscriptions.setdefault(topic, NodeSubscription(topic))
        self._do(act="subscribe", topic=topic, since=since)

    def opened(self, token: str | None, now: float) -> None:
        self._do(act="open")

    def take(self) -> list[str]:
        sent, self._sent = self._sent, []
        return sent

    def received(self, text: str, now: float) -> Iterator[tuple[NodeSubscription, tuple[str, Any]]]:
        for topic, kind, value in self._do(act="text", text=text):
            yield self.subscriptions[topic], (kind, value)

    def closed(self, code: int) -> None:
        self._do(act="close", code=code)

    def end(self) -> None:
        assert self._node.stdin is not None
        self._node.stdin.close()
        self._node.wait(90)

    def _do(self, **command: object) -> list[tuple[str, str, Any]]:
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps(command) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline())
        self._sent += answer["sent"]
        self.has_lost |= answer.get("lost", False)
        for topic, at, live in answer["state"]:
            one = self.subscriptions[topic]
            one.at, one.phase = at, "live" if live else "offline"
        events: list[tuple[str, str, Any]] = answer["events"]
        return events


class NodeTabs(NodeClient):
    """Tabs that share a connection.  Their subscriptions are named `TAB|FILTER`."""

    def __init__(self, count: int) -> None:
        super().__init__(str(TABS_HARNESS), str(count))

    def kill(self, tab: int) -> None:
        """A tab is closed, and opened again: with nothing that it had."""
        self._do(act="kill", tab=tab)
        for key in self.subscriptions:
            if key.startswith(f"{tab}|"):
                self._do(act="subscribe", topic=key, since=None)
