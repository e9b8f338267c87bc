"""Scenario files: text to values.

[A will goes out when the connection ends without DISCONNECT]     the title, unique in all files
covers: 3, 35                          points of the specification and of the list of behaviours
conf:                                  the configuration file, otherwise DEFAULT_CONF
  listener {port} 127.0.0.1
file NAME:                             another file in the scenario's folder
  user:hash
steps:
  S: connect                           ACTOR: VERB ARGUMENTS
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

WORD = re.compile(r"(?:[^\s']|'[^']*')+")
OPTION = re.compile(r"[a-z.-]+=")
DEFAULT_CONF = "listener {port} 127.0.0.1\nallow_anonymous true\n"


class ScenarioError(Exception):
    """A mistake in a scenario file: `FILE:LINE: what`."""


@dataclass
class Step:
    actor: str
    verb: str
    arguments: list[str]
    options: dict[str, str]
    fenced: bool
    source: str
    line: int


@dataclass
class Scenario:
    title: str
    path: Path
    covers: list[str] = field(default_factory=list)
    conf: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def read_folder(folder: Path) -> list[Scenario]:
    """Every scenario below a folder, in the order of the files' names."""
    found = [scenario for path in sorted(folder.glob("*.scenario")) for scenario in read(path)]
    titles = [scenario.title for scenario in found]
    for title in titles:
        if titles.count(title) > 1:
            raise ScenarioError(f"two scenarios are called {title!r}")
    return found


def read(path: Path) -> list[Scenario]:
    """The scenarios of one file."""
    scenarios: list[Scenario] = []
    block: list[str] | None = None
    section = ""
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        where = f"{path.name}:{number}"
        if block is not None and (line.startswith("  ") or not line.strip()):
            if section == "steps" and line.strip() and not line.strip().startswith("#"):
                scenarios[-1].steps.append(parse_step(line.strip(), number, where))
            block.append(line[2:])
            continue
        if block is not None:
            _close(scenarios[-1], section, block)
            block = None
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            scenarios.append(Scenario(line.strip()[1:-1], path))
        elif line.startswith("covers:"):
            scenarios[-1].covers = [word.strip() for word in line[7:].split(",")]
        elif match := re.fullmatch(r"(conf|steps|file \S+):", line.rstrip()):
            section, block = match[1], []
        else:
            raise ScenarioError(f"{where}: expected '[title]', 'covers:', 'conf:', 'file NAME:' or 'steps:'")
    if block is not None:
        _close(scenarios[-1], section, block)
    return scenarios


def _close(scenario: Scenario, section: str, block: list[str]) -> None:
    content = "\n".join(block).rstrip() + "\n"
    if section == "conf":
        scenario.conf = content
    elif section.startswith("file "):
        scenario.files[section[5:]] = content


def split(text: str) -> list[str]:
    """As `shlex.split`, which takes a hundred times as long where there is little to quote."""
    if '"' in text or "\\" in text or text.count("'") % 2:
        return shlex.split(text)
    return [word.replace("'", "") for word in WORD.findall(text)]


def parse_step(text: str, number: int, where: str) -> Step:
    """A step from its text; `where` is for what is said of a mistake."""
    fenced = not text.endswith(" &")
    actor, colon, rest = text.removesuffix(" &").partition(": ")
    if not colon or not re.fullmatch(r"\w+", actor):
        raise ScenarioError(f"{where}: a step is 'ACTOR: VERB ARGUMENTS'")
    words = split(rest)
    raw = words[0] in ("run", "start", "tool", "case", "first")
    pairs = {} if raw else dict(word.split("=", 1) for word in words[1:] if OPTION.match(word))
    plain = words[1:] if raw else [word for word in words[1:] if not OPTION.match(word)]
    return Step(actor, words[0], plain, pairs, fenced, text, number)
