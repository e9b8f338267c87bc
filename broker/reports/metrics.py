"""What `/metrics` shows: the numbers of one broker as families, made when they are asked for.

`broker_*` are the `$SYS/broker` topics under the names that the widely used Mosquitto exporters give them, so that
dashboards made for those work.  `rowcast_*` is what Mosquitto does not have.  Label values come from the
configuration or from lists in the code, never from clients or rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from broker.core.histogram import Histogram
from broker.reports.cluster_metrics import cluster_families
from broker.reports.exposition import Family, by_label, counter, gauge
from broker.reports.log_tail import TAIL
from broker.reports.usage import open_files, open_files_max, resident_bytes
from protocol.dialects.canton import CantonDialect

if TYPE_CHECKING:
    from broker.feed.status import FeedStatus
    from broker.reports.facts import Facts

FEED_STATES: Final = ("connecting", "recovering", "live", "waiting")
"""Those that every feed can have; another one that a kind of feed has is shown as well."""

COUNTED_BY_EXPORTERS: Final = {
    "bytes/received",
    "bytes/sent",
    "messages/received",
    "messages/sent",
    "publish/bytes/received",
    "publish/bytes/sent",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/dropped",
    "clients/expired",
}
_LEFT_OUT: Final = {"version", "rowcast/build", "clients/active", "clients/inactive"}
"""As by the exporters: texts, and the old names of two others."""


def families(facts: Facts) -> Iterator[Family]:
    """Everything, in the order in which it is shown."""
    yield from _mosquitto(facts)
    yield from _process(facts)
    yield from _connections(facts)
    yield from _messages(facts)
    yield from _loop(facts)
    yield from _persistence(facts)
    yield counter(
        "rowcast_log_lines_dropped", "Lines of the log that nobody read from stdout or stderr.", TAIL.dropped
    )
    yield from _feeds(facts)
    yield from _sinks(facts)
    yield from _market(facts)
    yield from cluster_families(facts)
    yield from _books()
    yield from _ready(facts)


def _mosquitto(facts: Facts) -> Iterator[Family]:
    for topic, text in facts.sys_values().items():
        if topic in _LEFT_OUT:
            continue
        name = "broker_" + topic.replace("/", "_").replace(" ", "_")
        kind = "bare_counter" if topic in COUNTED_BY_EXPORTERS else "gauge"
        yield Family(name, kind, f"$SYS/broker/{topic}", (((), float(text.split()[0])),))


def _process(facts: Facts) -> Iterator[Family]:
    yield Family(
        "rowcast_build",
        "info",
        "Version, and whether the busiest modules are compiled.",
        (((("version", facts.version), ("build", facts.build)), 1),),
    )
    yield counter("process_cpu_seconds", "CPU time, user and system.", time.process_time())
    yield gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes())
    yield gauge("process_start_time_seconds", "When the process started, Unix time.", facts.started_unix_s)
    yield gauge("process_open_fds", "Open file descriptors.", open_files())
    yield gauge("process_max_fds", "How many there may be.", open_files_max())


def _connections(facts: Facts) -> Iterator[Family]:
    samples = tuple(
        ((("listener", where), ("protocol", protocol)), count) for where, protocol, count in facts.listeners()
    )
    yield Family("rowcast_listener_connections", "gauge", "Connections that are open on a listener.", samples)
    yield by_label(
        "rowcast_dialect_connections",
        "gauge",
        "Open WebSocket connections, by what they speak.",
        "dialect",
        facts.dialect_connections(),
    )
    counters = facts.engine.counters
    yield counter("rowcast_connections_opened", "Connections of MQTT clients.", counters.sockets_opened)
    yield counter(
        "rowcast_connections_accepted", "CONNECTs answered with yes.", counters.connections_accepted
    )
    yield by_label(
        "rowcast_connections_refused",
        "counter",
        "Connections that were refused, by reason.",
        "reason",
        counters.refused,
    )
    yield counter(
        "rowcast_protocol_errors", "Connections ended for a peer's mistake.", counters.protocol_errors
    )
    yield counter(
        "rowcast_link_bugs",
        "Connections, messages, rows, requests and tokens that met a bug of Rowcast.",
        counters.link_bugs,
    )
    yield by_label(
        "rowcast_unexpected",
        "counter",
        "Packets, messages and requests dropped for what nobody expected of them, by place in the code.",
        "reason",
        counters.unexpected,
    )


def _messages(facts: Facts) -> Iterator[Family]:
    counters = facts.engine.counters
    dropped = {
        "outbox_full": counters.dropped_outbox_full,
        "queue_full": counters.dropped_queue_full,
        "acl": counters.dropped_acl,
        "too_large": counters.dropped_too_large,
        "inbound_full": counters.dropped_inbound_full,
        "retained_full": counters.dropped_retained_full,
        "expired": counters.messages_expired,
    }
    yield by_label(
        "rowcast_messages_dropped", "counter", "Messages not delivered, by reason.", "reason", dropped
    )
    yield counter(
        "rowcast_subscriptions_refused",
        "Filters refused in SUBACK because the client had max_subscriptions already.",
        counters.subscriptions_refused,
    )
    yield counter(
        "rowcast_reading_held",
        "How often a peer was not read from until it read its answers.",
        counters.reading_held,
    )
    owed = facts.owed()
    yield gauge("rowcast_owed_bytes", "Bytes that peers have yet to take.", owed.total)
    yield gauge("rowcast_owed_bytes_max", "Of the peer that is owed most.", owed.largest)
    yield gauge("rowcast_owed_bytes_p99", "99 of 100 connections are owed no more than this.", owed.p99)
    trie = facts.engine.trie
    yield gauge("rowcast_match_cache_topics", "Topics whose receivers are remembered.", trie.cached_count())
    yield counter("rowcast_match_cache_misses", "Topics whose receivers had to be looked up.", trie.misses)


def _loop(facts: Facts) -> Iterator[Family]:
    pulse = facts.pulse
    yield gauge("rowcast_loop_lag_last_seconds", "How late the loop turned last.", pulse.last_lag_s)
    yield _histogram("rowcast_loop_lag_seconds", "How late the loop turned.", (), pulse.lag)


def _persistence(facts: Facts) -> Iterator[Family]:
    keeper = facts.keeper
    if keeper is None:
        return
    yield _histogram(
        "rowcast_persistence_save_seconds", "Saves to the persistence file, fsync included.", (), keeper.saves
    )
    yield counter("rowcast_persistence_failures", "Saves that failed.", keeper.failures)


def _feeds(facts: Facts) -> Iterator[Family]:
    feeds = facts.feeds
    if not feeds:
        return
    states = tuple(
        ((("feed", name), ("state", state)), int(feed.state == state))
        for name, feed in sorted(feeds.items())
        for state in dict.fromkeys((*FEED_STATES, feed.state))
    )
    yield Family("rowcast_feed_state", "gauge", "1 for the state that a feed is in.", states)
    for name, kind, help in _FEED_NUMBERS:
        values = {feed: getattr(status, name) for feed, status in feeds.items()}
        yield by_label(f"rowcast_feed_{_FEED_NAMES.get(name, name)}", kind, help, "feed", values)
    troubles = {name: len(status.troubles) for name, status in feeds.items()}
    yield by_label(
        "rowcast_feed_troubles", "gauge", "What keeps rows from being delivered, now.", "feed", troubles
    )
    yield Family("rowcast_feed_rows", "counter", "Rows, by what became of them.", tuple(_rows(feeds)))
    dropped = tuple(
        ((("feed", name), ("reason", reason)), count)
        for name, status in sorted(feeds.items())
        for reason, count in sorted(status.dropped.items())
    )
    yield Family("rowcast_feed_dropped", "counter", "Rows that were not published, by reason.", dropped)
    yield Family(
        "rowcast_feed_commit_to_send_seconds",
        "histogram",
        "From COMMIT, by the server's clock, until the row's messages were handed to the kernel.",
        histograms=tuple(((("feed", name),), status.latency) for name, status in sorted(feeds.items())),
    )


_FEED_NUMBERS: Final = (
    ("lag_bytes", "gauge", "Write-ahead log that Postgres keeps for the feed."),
    ("lag_s", "gauge", "How long ago the newest delivered row was committed, while more is waiting."),
    ("spooled_bytes", "gauge", "Parts of open transactions in temporary files."),
    ("gaps", "counter", "Times at which rows may have been lost."),
    ("reconnects", "counter", "Connections to the database after the first."),
    ("published", "counter", "Publications made from rows."),
)
_FEED_NAMES: Final = {"lag_s": "lag_seconds", "published": "publications"}


def _rows(feeds: dict[str, FeedStatus]) -> Iterator[tuple[tuple[tuple[str, str], ...], float]]:
    for name, status in sorted(feeds.items()):
        for outcome in ("received", "repeated", "recovered", "fetched"):
            yield (("feed", name), ("outcome", outcome)), getattr(status, outcome)
        yield (("feed", name), ("outcome", "dropped")), sum(status.dropped.values())


def _sinks(facts: Facts) -> Iterator[Family]:
    """Messages that become rows, by sink: a name of the configuration."""
    sinks = {sink.config.name: sink for sink in facts.sinks()}
    if not sinks:
        return
    live = {name: int(sink.state == "live") for name, sink in sinks.items()}
    yield by_label("rowcast_sink_live", "gauge", "1 while it writes to its table.", "sink", live)
    for name, kind, help in _SINK_NUMBERS:
        values = {label: getattr(sink, name) for label, sink in sinks.items()}
        yield by_label(f"rowcast_sink_{name}", kind, help, "sink", values)
    waiting = {name: len(sink.waiting) + sink.unsettled for name, sink in sinks.items()}
    yield by_label("rowcast_sink_waiting", "gauge", "Messages that are not committed yet.", "sink", waiting)
    yield Family(
        "rowcast_sink_commit_seconds",
        "histogram",
        "From the arrival of a message until its row was committed.",
        histograms=tuple(((("sink", name),), sink.latency) for name, sink in sorted(sinks.items())),
    )


_SINK_NUMBERS: Final = (
    ("written", "counter", "Messages that were written."),
    ("batches", "counter", "Transactions in which they were."),
    ("refused", "counter", "Messages that the table did not take."),
    ("dead_letters", "counter", "Of those, how many were kept as dead letters."),
    ("dropped", "counter", "Messages at QoS 0 for which there was no room."),
    ("retried", "counter", "Batches that were tried again."),
    ("paused_count", "counter", "How often a client was not read from until there was room."),
    ("waiting_bytes", "gauge", "Bytes of the messages that wait."),
)

MARKET_EVENTS: Final = ("rows", "messages", "repeated", "crossed", "late", "resets")


def _market(facts: Facts) -> Iterator[Family]:
    """What calculators have done; their states are shown among the feeds."""
    running = {one.status.name: one.calculator.counts for one in facts.calculators()}
    if running:
        samples = tuple(
            ((("calculator", name), ("event", event)), getattr(counts, event))
            for name, counts in sorted(running.items())
            for event in MARKET_EVENTS
        )
        yield Family(
            "rowcast_market_events", "counter", "What the market's calculators met and did.", samples
        )


def _books() -> Iterator[Family]:
    """What the merging of CantonDEX books left out, since the start of the process."""
    yield counter(
        "rowcast_book_levels_discarded",
        "Levels of CantonDEX books that had no price, where changes were merged.",
        CantonDialect.conflation.discarded,
    )


def _ready(facts: Facts) -> Iterator[Family]:
    yield gauge("rowcast_ready", "1 while /readyz is green.", int(not facts.unready()))
    yield gauge("rowcast_draining", "1 from SIGTERM, or `rowcast ctl drain`, on.", int(facts.is_draining))


def _histogram(name: str, help: str, labels: tuple[tuple[str, str], ...], values: Histogram) -> Family:
    return Family(name, "histogram", help, histograms=((labels, values),))
