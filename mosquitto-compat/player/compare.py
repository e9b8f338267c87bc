"""Two transcripts, their differences, and the ledger that explains them.

The ledger holds, for each scenario that differs, why, and every differing line:

    [title of the scenario]
    because: one paragraph
      - a line that only Mosquitto's transcript has
      + a line that only Rowcast's has
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path


@dataclass
class Entry:
    title: str
    because: str = ""
    lines: list[str] = field(default_factory=list)


def read_ledger(path: Path) -> dict[str, Entry]:
    """Entries by title.  A line that is none of the four kinds is prose for the reader."""
    entries: dict[str, Entry] = {}
    entry = Entry("")
    for line in path.read_text("utf-8").split("\n") if path.exists() else []:
        if line.startswith("[") and line.rstrip().endswith("]"):
            entry = entries.setdefault(line.strip()[1:-1], Entry(line.strip()[1:-1]))
        elif line.startswith("because:"):
            entry.because = line[8:].strip()
        elif line.startswith(("  - ", "  + ")):
            entry.lines.append(line[2:].rstrip())
        elif line.startswith("  ") and entry.because and not entry.lines:
            entry.because += " " + line.strip()
    return entries


def differences(mosquitto: list[str], rowcast: list[str]) -> list[str]:
    """`- line` and `+ line`, step by step."""
    return differing(by_step(mosquitto), by_step(rowcast))


def differing(mosquitto: list[list[str]], rowcast: list[list[str]]) -> list[str]:
    """The same of transcripts that are cut into steps already."""
    found: list[str] = []
    nothing: list[str] = []
    for theirs, ours in zip_longest(mosquitto, rowcast, fillvalue=nothing):  # one may have taken too long
        for tag, a, b, c, d in SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
            if tag != "equal":
                found += [f"- {line.strip()}" for line in theirs[a:b]]
                found += [f"+ {line.strip()}" for line in ours[c:d]]
    return found


def by_step(transcript: list[str]) -> list[list[str]]:
    """The lines of each step; the first list is what came before any."""
    steps: list[list[str]] = [[]]
    for line in transcript:
        if line.startswith("-- "):
            steps.append([])
        else:
            steps[-1].append(line)
    return steps


def is_explained(found: list[str], entry: Entry | None) -> bool:
    """Whether there is nothing to explain, or the ledger states just these lines and a reason."""
    if entry is None:
        return not found
    return bool(entry.because) and found == entry.lines


def proposal(title: str, found: list[str]) -> str:
    """A ledger entry that lacks only its reason."""
    return "\n".join([f"[{title}]", "because:", *(f"  {line}" for line in found), ""])
