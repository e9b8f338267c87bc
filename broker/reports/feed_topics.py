"""What a feed says about itself on `$SYS/feed/<name>/…`.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from broker.feed.status import FeedStatus


class FeedTopics:
    """The topics of one feed; `gap` is published when it happens, by `broker.feed.gaps`."""

    def __init__(self, status: FeedStatus) -> None:
        self._status = status
        self._prefix = f"$SYS/feed/{status.name}/"
        self._said: dict[str, str] = {}

    def changed(self) -> list[tuple[str, str]]:
        """The topics whose value is another than when last asked, whole names and texts."""
        values = dict(self._values())
        news = [(self._prefix + name, text) for name, text in values.items() if self._said.get(name) != text]
        self._said = values
        return news

    def _values(self) -> Iterator[tuple[str, str]]:
        status = self._status
        yield "state", status.state
        yield "problem", status.problem
        yield "troubles", "; ".join(status.troubles.values())
        yield "position", status.position
        yield "acknowledged", status.acknowledged
        yield "lag/bytes", str(status.lag_bytes)
        yield "lag/seconds", f"{status.lag_s:.1f}"
        yield "spooled/bytes", str(status.spooled_bytes)
        for name in ("received", "published", "repeated", "recovered", "fetched", "reconnects", "gaps"):
            yield name, str(getattr(status, name))
        for name, count in status.more.items():
            yield name, str(count)
        yield "dropped", str(sum(status.dropped.values()))
