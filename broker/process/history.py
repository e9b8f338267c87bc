"""The life of a broker's history: begun with the process, looked at every second, kept at an orderly end."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from broker.config.model import Config
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.row_source import RowSource, StateSource
from broker.storage.history_file import history_for, save_history

if TYPE_CHECKING:
    from broker.feed.status import FeedStatus

logger = logging.getLogger("broker")

LOOK_INTERVAL_S: Final = 1.0


def open_history(config: Config, engine: Engine, feeds: Mapping[str, FeedStatus]) -> History:
    """The history that a configuration describes, its rings subscribed with the engine.

    Args:
        feeds: what becomes of each feed, by its name; they may come later.
    """
    path = _path(config) if config.persistence.persistence and config.history else None
    history = history_for(config.history, path, trio.current_time(), time.time(), _sources(config))
    history.tables = tables_of(config, feeds)
    for ring in history.rings:
        engine.subscribe(ring, ring.topic_filter, 0)
    return history


def renew_history(history: History, config: Config, feeds: Mapping[str, FeedStatus]) -> None:
    """Rows are read as this configuration says, by the rings, too, that are there; as `open_history`."""
    sources = _sources(config)
    history.sources.clear()
    history.sources.update(sources)
    history.tables = tables_of(config, feeds)


async def age(history: History) -> None:
    """Forget what is too old, until cancelled."""
    while history.rings:
        history.tick(trio.current_time())
        await trio.sleep(LOOK_INTERVAL_S)


def keep_history(history: History, config: Config) -> None:
    """Save it for the next process, whatever is being cancelled; a failure is logged."""
    if not history.rings:
        return
    try:
        save_history(history, _path(config), trio.current_time(), time.time())
    except OSError as error:
        logger.error("The history can't be kept in %s: %s", _path(config), error.strerror)


def tables_of(config: Config, feeds: Mapping[str, FeedStatus]) -> dict[str, StateSource]:
    """Where the state of topics is read that nobody retains.  In a cluster nowhere: another node may have the feed."""
    kinds = [feed for feed in config.feeds if feed.keeps_place]
    if config.cluster is not None or not any(route.snapshot for feed in kinds for route in feed.routes):
        return {}
    from broker.feed.current import CurrentRows

    return {feed.name: CurrentRows(feed, feeds) for feed in kinds}


def _sources(config: Config) -> dict[str, RowSource]:
    if not config.history or config.cluster is not None:
        return {}  # and psycopg is not even imported
    kinds = [feed for feed in config.feeds if feed.keeps_place]
    if not kinds:
        return {}
    from broker.feed.reread import source_of

    found = {feed.name: source_of(feed) for feed in kinds}
    return {name: source for name, source in found.items() if source is not None}


def _path(config: Config) -> Path:
    settings = config.persistence
    return settings.persistence_location / (settings.persistence_file + "-history")
