"""What keeps a feed from being called ready, in words.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from broker.feed.status import STANDBY

if TYPE_CHECKING:
    from broker.config.model import Config
    from broker.feed.status import FeedStatus
    from broker.ingest.sink import Sink


@frozen
class Behind:
    """From when on a feed counts as behind, and how long a gap is shown that nobody has acknowledged."""

    lag_s: float = 30.0
    lag_bytes: int = 256 * 1024 * 1024
    gap_s: float = 3600.0

    @classmethod
    def of(cls, config: Config) -> Behind:
        """The limits of this configuration."""
        lag_bytes = min((feed.replication.lag_alarm_bytes for feed in config.feeds), default=cls().lag_bytes)
        return cls(config.health.lag_s, lag_bytes, config.health.gap_s)


def sink_reasons(sink: Sink) -> list[str]:
    """Why messages may not become rows."""
    name = f"sink {sink.config.name}"
    reasons = (
        []
        if sink.state == "live"
        else [f"{name}: {sink.state}" + (f": {sink.problem}" if sink.problem else "")]
    )
    if sink.is_full():
        reasons.append(f"{name}: full: {len(sink.waiting) + sink.unsettled} messages wait")
    return reasons


def feed_reasons(status: FeedStatus, behind: Behind, unix_now: float) -> list[str]:
    """Why rows of this feed may not be delivered; empty if they are."""
    name = f"feed {status.name}"
    reasons = [f"{name}: {text}" for text in status.troubles.values()]
    if status.state not in ("live", STANDBY):
        why = f": {status.problem}" if status.problem else ""
        reasons.append(f"{name}: {status.state}{why}")
    if status.lag_s > behind.lag_s:
        reasons.append(f"{name}: {status.lag_s:.0f} s behind")
    if status.lag_bytes > behind.lag_bytes:
        reasons.append(f"{name}: {status.lag_bytes} bytes of write-ahead log behind")
    gap = status.last_gap
    if gap is not None and unix_now - gap.unix_s < behind.gap_s:
        reasons.append(
            f"{name}: gap {status.gaps}: {gap.reason} (`rowcast ctl feeds --acknowledge {status.name}` clears this)"
        )
    return reasons
