"""[[history]] of a TOML configuration."""

from __future__ import annotations

from broker.config.history import HistoryRule
from broker.config.toml.checks import check_filters
from broker.config.toml.document import Document, array_of
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader
from protocol.mqtt.reserved import CHANNEL_PREFIX

CHANNELS = (CHANNEL_PREFIX + b"exchange/", CHANNEL_PREFIX + b"canton/")
"""Channels of which a client can say from where on it wants all."""


def history_rules(reader: Reader, document: Document) -> tuple[HistoryRule, ...]:
    """Every [[history]]."""
    found = []
    for index, value in enumerate(array_of(reader, document, "history")):
        path: Path = ("history", index)
        rule = reader.structure(value, HistoryRule, path)
        if rule is None:
            continue
        check_filters(reader, (*path, "topics"), rule.topics, CHANNELS)
        if not rule.topics:
            reader.wrong((*path, "topics"), "topics: at least one topic filter is wanted")
        if rule.count < 1 or rule.size_bytes < 1 or rule.age_s <= 0:
            reader.wrong(path, "history: count, size and age must be above 0: leave [[history]] out for none")
        if rule.source_count < 0:
            reader.wrong((*path, "source_count"), "source_count: 0 or more is wanted; 0 reads nothing again")
        found.append(rule)
    return tuple(found)
