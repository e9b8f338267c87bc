"""What a sink says about itself on `$SYS/sink/<name>/…`.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker.ingest.sink import Sink

_UNFIT: Final = re.compile(r"[/+#\x00-\x1f\x7f]")


class SinkTopics:
    """The topics of one sink; characters that a topic level can't have are `_` in its name."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def changed(self, sink: Sink) -> list[tuple[str, str]]:
        """The topics whose value is another than when last asked, whole names and texts."""
        prefix = f"$SYS/sink/{_UNFIT.sub('_', sink.config.name)}/"
        values = dict(_values(sink))
        news = [(prefix + name, text) for name, text in values.items() if self._said.get(name) != text]
        self._said = values
        return news


def _values(sink: Sink) -> Iterator[tuple[str, str]]:
    yield "state", sink.state
    yield "problem", sink.problem
    yield "waiting", str(len(sink.waiting) + sink.unsettled)
    for name in ("written", "refused", "dead_letters", "dropped", "retried"):
        yield name, str(getattr(sink, name))
