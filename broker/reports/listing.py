"""Clients, subscriptions, retained messages and feeds as JSON values, for the page and `rowcast ctl`.

Every list is a page of at most `LIST_MAX` entries, and is searched in steps, between which others have their turn.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Session
from broker.feed.status import FeedStatus
from broker.gateway.aggregates import Aggregate
from broker.links.mqtt.link import MqttLink
from broker.links.websocket.dialect import DialectLink
from broker.reports.facts import Facts
from broker.reports.gently import gently, part_in_order

DIGITS_MAX: Final = 20
"""Of a number in a query: Python refuses to read one of some thousands."""

LIST_MAX: Final = 1000
LIST_DEFAULT: Final = 100
PAYLOAD_SHOWN_MAX: Final = 4096
"""Bytes of a retained payload that are shown."""

Json = dict[str, Any]
T = TypeVar("T")


class BadQuery(ValueError):
    """What is wrong with a request's query."""


def page_of(query: Mapping[str, str]) -> tuple[int, int]:
    """`offset` and `limit` of a query.  Raises: BadQuery."""
    return _number(query, "offset", 0, 10**9), _number(query, "limit", LIST_DEFAULT, LIST_MAX)


def _number(query: Mapping[str, str], name: str, default: int, highest: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS_MAX or int(text) > highest:
        raise BadQuery(f"{name}: a whole number up to {highest} is wanted")
    return int(text)


async def clients(facts: Facts, query: Mapping[str, str]) -> Json:
    """MQTT clients and dialects' clients whose name, user or address has `search` in it.

    `sort=owed` puts slow readers first; without it they come as they connected.
    """
    search = query.get("search", "").lower()
    entries = [entry async for entry in gently(_clients(facts)) if _matches(entry, search)]
    order = (lambda entry: -entry["owed_bytes"]) if query.get("sort") == "owed" else None
    return await _page("clients", entries, query, order)


def _clients(facts: Facts) -> Iterable[Json]:
    for session in list(facts.engine.sessions.values()):
        yield _session(session, facts.engine.now)
    for link in facts.dialect_links():
        yield _dialect_client(link)


def _session(session: Session, now: float) -> Json:
    link = session.link
    entry = {
        "client": session.client_id.decode(errors="replace"),
        "user": (session.user_name or b"").decode(errors="replace"),
        "protocol": "mqtt",
        "connected": link is not None,
        "peer": "",
        "persistent": not session.clean,
        "subscriptions": len(session.subscriptions),
        "queued": session.outbound.queued_count(),
        "owed_bytes": 0 if session.outbox is None else session.outbox.pending_bytes,
        "silent_s": 0.0,
    }
    if isinstance(link, MqttLink):
        entry["peer"] = link.peer
        entry["silent_s"] = round(max(0.0, now - link.last_received), 1)
    return entry


def _dialect_client(link: DialectLink) -> Json:
    return {
        "client": "",
        "user": link.account,
        "protocol": link.dialect.name,
        "connected": True,
        "peer": link.peer,
        "persistent": False,
        "subscriptions": link.subscription_count(),
        "queued": 0,
        "owed_bytes": link.outbox.pending_bytes,
        "silent_s": round(max(0.0, link.engine.now - link.last_received), 1),
    }


def _matches(entry: Json, search: str) -> bool:
    return not search or any(search in str(entry[key]).lower() for key in ("client", "user", "peer"))


async def subscriptions(facts: Facts, query: Mapping[str, str]) -> Json:
    """Filters with `search` in them, and how many subscribed to each."""
    search = query.get("search", "").lower()
    found: dict[str, Json] = {}
    async for topic_filter, receiver, granted in gently(facts.engine.trie.subscriptions()):
        name = topic_filter.decode(errors="replace")
        if search and search not in name.lower():
            continue
        entry = found.setdefault(name, {"filter": name, "subscribers": 0, "qos": 0, "example": ""})
        entry["subscribers"] += 1
        entry["qos"] = max(entry["qos"], granted & 3)
        entry["example"] = entry["example"] or _name_of(receiver)
    return await _page(
        "subscriptions",
        list(found.values()),
        query,
        lambda entry: (-entry["subscribers"], entry["filter"]),
    )


def _name_of(receiver: Receiver) -> str:
    if isinstance(receiver, Session):
        return receiver.client_id.decode(errors="replace")
    if isinstance(receiver, DialectLink):
        return f"{receiver.dialect.name} {receiver.peer}"
    return "(interval)" if isinstance(receiver, Aggregate) else ""


async def retained(facts: Facts, query: Mapping[str, str]) -> Json:
    """Retained messages with `search` in their topics; of each payload the first bytes."""
    search = query.get("search", "").lower().encode()
    found = [
        message
        async for message in gently(facts.engine.retained.all())
        if not search or search in message.topic.lower()
    ]
    page = await _page(
        "retained",
        found,
        query,
        lambda message: (message.topic.startswith(b"$"), message.topic),  # $SYS last
    )
    page["retained"] = [_message(message) for message in page["retained"]]
    return page


def _message(publication: Publication) -> Json:
    payload = publication.payload
    shown = payload[:PAYLOAD_SHOWN_MAX]
    entry: Json = {
        "topic": publication.topic.decode(errors="replace"),
        "bytes": len(payload),
        "qos": publication.qos,
    }
    try:
        entry["payload"] = shown.decode()
    except UnicodeDecodeError:
        if len(shown) < len(payload):
            entry["payload"] = shown.decode(errors="ignore")
        else:
            entry["payload_base64"] = base64.b64encode(shown).decode()
    return entry


def feeds(facts: Facts) -> Json:
    """Each feed, as `/api/v1/feeds` answers."""
    return {"feeds": [_feed(status) for status in facts.feeds.values()]}


def _feed(status: FeedStatus) -> Json:
    gap = status.last_gap
    return {
        "feed": status.name,
        "state": status.state,
        "since": _utc(status.since_unix_s),
        "problem": status.problem,
        "troubles": list(status.troubles.values()),
        "position": status.position,
        "acknowledged": status.acknowledged,
        "lag_bytes": status.lag_bytes,
        "lag_s": round(status.lag_s, 3),
        "spooled_bytes": status.spooled_bytes,
        "received": status.received,
        "published": status.published,
        "repeated": status.repeated,
        "recovered": status.recovered,
        "fetched": status.fetched,
        "reconnects": status.reconnects,
        "gaps": status.gaps,
        "gap": None if gap is None else {"reason": gap.reason, "at": _utc(gap.unix_s)},
        "dropped": status.dropped,
        "more": status.more,
        "p50_s": status.latency.quantile(0.5),
        "p99_s": status.latency.quantile(0.99),
    }


def overview(facts: Facts) -> Json:
    """What the page shows first, and `rowcast ctl status` prints."""
    engine = facts.engine
    owed = facts.owed()
    unready = facts.unready()
    return {
        "version": facts.version,
        "build": facts.build,
        "time": _utc(time.time()),
        "started": _utc(facts.started_unix_s),
        "ready": not unready,
        "reasons": unready,
        "draining": facts.is_draining,
        "sys": facts.sys_values(),
        "listeners": [
            {"listener": where, "protocol": protocol, "connections": count}
            for where, protocol, count in facts.listeners()
        ],
        "dialects": facts.dialect_connections(),
        "owed": {"total": owed.total, "largest": owed.largest, "p99": owed.p99},
        "refused": dict(engine.counters.refused),
        "protocol_errors": engine.counters.protocol_errors,
        "loop_lag_s": round(facts.pulse.last_lag_s, 4),
        "cluster": cluster(facts),
        **feeds(facts),
    }


def cluster(facts: Facts) -> Json | None:
    """The nodes, as this one knows them; None where there is no cluster."""
    return None if facts.cluster is None else facts.cluster.report()


async def _page(
    name: str, entries: list[T], query: Mapping[str, str], order: Callable[[T], Any] | None = None
) -> Json:
    offset, limit = page_of(query)
    if order is None:
        shown = entries[offset : offset + limit]
    else:
        shown = await part_in_order(entries, order, offset, limit)
    return {name: shown, "total": len(entries), "offset": offset, "limit": limit}


def _utc(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s)) if unix_s else ""
