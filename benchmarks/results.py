"""All measurements of one run, kept as JSON, so that tables can be written again without measuring again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cattrs
from attrs import define, field, frozen

from benchmarks.arithmetic import Spread, median, ratios, spread
from benchmarks.measurement import Measurement


@frozen
class Record:
    """One workload against one peer in one round; `failure` says why there is no measurement."""

    workload: str
    peer: str
    round: int
    measurement: Measurement | None = None
    failure: str = ""


@define
class Results:
    """Records in the order in which they were taken, and where."""

    machine: str
    commit: str
    command: str
    date: str
    seconds: float
    rounds: int
    versions: dict[str, str]
    records: list[Record] = field(factory=list)
    micro: dict[str, dict[str, float]] = field(factory=dict)
    """Micro-benchmarks: install → figure → value."""

    def of(self, workload: str, peer: str) -> list[Measurement | None]:
        """Round by round."""
        return [r.measurement for r in self.records if (r.workload, r.peer) == (workload, peer)]

    def measured(self, workload: str, peer: str) -> list[Measurement]:
        return [m for m in self.of(workload, peer) if m is not None]

    def failure(self, workload: str, peer: str) -> str:
        """Why nothing was measured, or an empty text."""
        return next(
            (r.failure for r in self.records if (r.workload, r.peer) == (workload, peer) and r.failure), ""
        )

    def rate(self, workload: str, peer: str) -> float | None:
        return _middle([m.rate for m in self.measured(workload, peer)])

    def cpu_us(self, workload: str, peer: str) -> float | None:
        return _middle([m.cpu_us for m in self.measured(workload, peer)])

    def rate_ratio(self, workload: str, ours: str, theirs: str) -> Spread | None:
        """How many times as many messages per second `ours` moves, over the rounds."""
        return spread(ratios(self._each(workload, ours, "rate"), self._each(workload, theirs, "rate")))

    def cpu_ratio(self, workload: str, ours: str, theirs: str) -> Spread | None:
        """How many times as much CPU per message `theirs` takes."""
        return spread(ratios(self._each(workload, theirs, "cpu_us"), self._each(workload, ours, "cpu_us")))

    def _each(self, workload: str, peer: str, figure: str) -> list[float | None]:
        return [None if m is None else getattr(m, figure) for m in self.of(workload, peer)]

    def rounds_taken(self) -> tuple[int, int]:
        """The fewest and the most of any workload and peer."""
        taken = Counter((record.workload, record.peer) for record in self.records).values()
        return (min(taken), max(taken)) if taken else (0, 0)

    def peers(self) -> list[str]:
        return list(dict.fromkeys(record.peer for record in self.records))

    def workloads(self) -> list[str]:
        return list(dict.fromkeys(record.workload for record in self.records))


def _middle(values: list[float]) -> float | None:
    return median(values) if values else None


def save(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cattrs.unstructure(results), indent=1))


def load(path: Path) -> Results:
    return cattrs.structure(json.loads(path.read_text()), Results)
