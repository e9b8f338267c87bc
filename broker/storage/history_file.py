"""The file in which history survives an orderly restart: written at the end, read and taken away at the start.

Taken away, because after a crash it would be older than the positions that clients hold: then no file is there, and
they are told that theirs are unknown.  A file that is damaged is as none, and the log says so.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from broker.config.history import HistoryRule
from broker.core.history import History, Ring
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.core.row_source import RowSource
from broker.core.traces import Traces

logger = logging.getLogger("broker.storage")

MAGIC: Final = b"rowcast history 1\n"
EPOCH_BYTES: Final = 6


def new_epoch() -> str:
    """A name for this process that no other has."""
    return secrets.token_hex(EPOCH_BYTES)


def history_for(
    rules: Iterable[HistoryRule],
    path: Path | None,
    now: float,
    unix_now: float,
    sources: dict[str, RowSource] | None = None,
) -> History:
    """The history that a configuration describes, with what an earlier process kept of it.

    Args:
        path: of the file; None where nothing outlives the process.
        now, unix_now: the same moment, in monotonic and in Unix seconds.
        sources: where rows can be read again, by feed.
    """
    sources = sources or {}
    saved = None if path is None else _taken(path)
    epoch = new_epoch()
    if saved is None:
        positions = Positions(epoch)
    else:
        older = {str(name): int(last) for name, last in saved["older"].items()}
        positions = Positions(epoch, saved["number"], {**older, saved["epoch"]: saved["number"]})
    rings = [
        Ring(
            positions,
            topic.encode(),
            rule.size_bytes,
            rule.count,
            rule.age_s,
            Traces(rule.source_count, positions.number, sources) if rule.source_count and sources else None,
        )
        for rule in rules
        for topic in rule.topics
    ]
    for ring in rings:
        ring.now = now
        saved_rings = {} if saved is None else saved["rings"]
        mine = saved_rings.get(ring.topic_filter.decode())
        if mine is not None:
            _restore_traces(ring, mine)
            kept = _publications(mine["kept"], mine.get("places"), now - unix_now)
            ring.restore(kept, mine["lost_through"], mine["lost_why"])
        elif saved is not None:
            ring.lost_why = "no history was kept before this server started"
        else:
            ring.lost_why = "the server was started anew"
    return History(positions, rings, sources)


def save_history(history: History, path: Path, now: float, unix_now: float) -> None:
    """Write it all.  Blocks.  Raises: OSError."""
    positions = history.positions
    rings = {
        ring.topic_filter.decode(): {
            "lost_through": ring.lost_through,
            "lost_why": ring.lost_why,
            "kept": [
                [
                    one.sequence,
                    at + unix_now - now,
                    one.topic.decode(),
                    one.payload.decode("latin-1"),
                    one.qos,
                    one.retain,
                ]
                for one, at, _ in ring.kept()
            ],
            "places": [place.decode("latin-1") for _, _, place in ring.kept()],
            "traces": None
            if ring.traces is None
            else {
                "lost_through": ring.traces.lost_through,
                "lost_why": ring.traces.lost_why,
                "kept": ring.traces.saved(),
            },
        }
        for ring in history.rings
    }
    whole = {"epoch": positions.epoch, "number": positions.number, "older": positions.older, "rings": rings}
    text = zlib.compress(json.dumps(whole).encode(), 1)
    data = MAGIC + zlib.crc32(text).to_bytes(4, "big") + text
    fresh = path.with_name(path.name + ".new")
    # Only for whoever runs the broker: payloads may be anybody's secrets.
    descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def _taken(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("The history in %s can't be read, and starts anew: %s", path, error.strerror)
        return None
    head = len(MAGIC) + 4
    text = data[head:]
    if not data.startswith(MAGIC) or zlib.crc32(text) != int.from_bytes(data[len(MAGIC) : head], "big"):
        logger.warning("The history in %s is damaged, and starts anew.", path)
        return None
    whole: dict[str, Any] = json.loads(zlib.decompress(text))
    return whole


def _restore_traces(ring: Ring, saved: dict[str, Any]) -> None:
    if ring.traces is None:
        return
    traces = saved.get("traces")  # an earlier version saved none
    if traces is None:
        ring.traces.lost_through = saved["lost_through"]
    else:
        ring.traces.restore(traces["kept"], traces["lost_through"], traces["lost_why"])


def _publications(
    kept: list[list[Any]], places: list[str] | None, offset_s: float
) -> Iterator[tuple[Publication, float, bytes]]:
    for (sequence, at, topic, payload, qos, retain), place in zip(
        kept, places or [""] * len(kept), strict=True
    ):
        one = Publication(str(topic).encode(), str(payload).encode("latin-1"), int(qos), bool(retain))
        one.sequence = int(sequence)
        yield one, float(at) + offset_s, place.encode("latin-1")
