"""A broker as its reports see it: nothing runs, and everything that they read can be set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from broker.config.model import Config
from broker.core.engine import Engine
from broker.feed.status import FeedStatus
from broker.links.listening.door import Door
from broker.reports.facts import Facts


class App:
    """As much of a broker as is looked at; ready."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.config = Config()
        self.feeds: dict[str, FeedStatus] = {}
        self.doors: list[Door] = []
        self.keeper: Any = None
        self.websockets: Any = None
        self.ingest: Any = None
        self.cluster: Any = None
        self.market: Any = None
        self.is_listening = True
        self.is_draining = False
        self.links: list[Any] = []
        self.server: Any = SimpleNamespace(links=lambda: self.links, owed=lambda: (0, 0))


def facts_of(app: App) -> tuple[Facts, list[float]]:
    """And its clock."""
    clock = [100.0]
    app_: Any = app
    return Facts(app_, lambda: clock[0]), clock
