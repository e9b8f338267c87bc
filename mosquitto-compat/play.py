"""Play the scenarios against Mosquitto and Rowcast and compare: `make compat`.

Exit status 0: every difference stands in the ledger, and the ledger has none that is gone.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

LEDGER_VERSION = "2.0.11"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from player import certificates, compare  # noqa: E402
from player.broker import COMMANDS  # noqa: E402
from player.play import play  # noqa: E402
from player.scenario import Scenario, read_folder  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "words", nargs="*", help="play only scenarios whose file or title contains all of these"
    )
    parser.add_argument(
        "--only", choices=("mosquitto", "rowcast"), help="play against one and print transcripts"
    )
    parser.add_argument("--rowcast", help="the command to play instead of this checkout's")
    parser.add_argument("--jobs", type=int, default=6, help="scenarios at the same time (6)")
    parser.add_argument(
        "--propose", action="store_true", help="print unexplained differences as ledger entries"
    )
    parser.add_argument("--show", action="store_true", help="print the transcripts of scenarios that differ")
    parser.add_argument("--logs", action="store_true", help="print what the broker wrote, too")
    parser.add_argument("--list", action="store_true", help="print titles and what they cover")
    return parser.parse_args()


def chosen(words: list[str]) -> list[Scenario]:
    scenarios = read_folder(HERE / "scenarios")
    return [s for s in scenarios if all(re.search(w, f"{s.path.name} {s.title}", re.I) for w in words)]


class Run:
    """Plays many scenarios, a few at a time, and keeps their transcripts."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._certificates = folder
        self._limit = trio.CapacityLimiter(arguments.jobs)
        self.transcripts: dict[tuple[str, str], list[str]] = {}
        self.seconds: dict[tuple[str, str], float] = {}
        self.logs: dict[tuple[str, str], list[str]] = {}

    async def all(self, scenarios: list[Scenario]) -> None:
        kinds = [self._arguments.only] if self._arguments.only else ["mosquitto", "rowcast"]
        async with trio.open_nursery() as nursery:
            for scenario in scenarios:
                for kind in kinds:
                    nursery.start_soon(self._one, scenario, kind)

    async def _one(self, scenario: Scenario, kind: str) -> None:
        async with self._limit:
            began, key = time.monotonic(), (scenario.title, kind)
            self.transcripts[key], self.logs[key] = await play(scenario, kind, self._certificates)
            self.seconds[key] = time.monotonic() - began


def mosquitto_version() -> str:
    """As it names itself: `mosquitto version 2.0.11`."""
    command = [*COMMANDS["mosquitto"], "-h"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n", 1)[0]


def report(run: Run, scenarios: list[Scenario], arguments: argparse.Namespace) -> int:
    """Print the comparison.  Returns how many scenarios are not as they should be."""
    ledger = compare.read_ledger(HERE / "ledger.txt")
    alike = explained = wrong = 0
    for scenario in scenarios:
        theirs, ours = (run.transcripts[scenario.title, kind] for kind in ("mosquitto", "rowcast"))
        found, entry = compare.differences(theirs, ours), ledger.get(scenario.title)
        if compare.is_explained(found, entry):
            alike, explained = alike + (not found), explained + bool(found)
            continue
        wrong += 1
        print(f"{scenario.path.name}:")
        if arguments.propose or not entry:
            print(compare.proposal(scenario.title, found))
        elif found == entry.lines:
            print(f"[{scenario.title}]\nthe ledger gives no reason\n")
        else:
            print(
                f"[{scenario.title}]\nthe ledger says otherwise; the differences are", *found, "", sep="\n  "
            )
        if arguments.show:
            _print_transcript(run, scenario.title, "rowcast", arguments.logs)
    titles = {scenario.title for scenario in read_folder(HERE / "scenarios")}
    gone = [title for title in ledger if title not in titles]
    for title in gone:
        print(f"the ledger explains a scenario that does not exist: {title}")
    print(
        f"{len(scenarios)} scenarios: {alike} alike, {explained} different as the ledger says, "
        f"{wrong} unexplained, {len(gone)} ledger entries without scenario"
    )
    return wrong + len(gone)


def _print_transcript(run: Run, title: str, kind: str, logs: bool) -> None:
    print(f"[{title}] {kind}, {run.seconds[title, kind]:.2f} s")
    print(*run.transcripts[title, kind], sep="\n")
    if logs:
        print(*(f"   log: {line}" for line in run.logs[title, kind]), sep="\n")
    print()


def main() -> int:
    arguments = parse()
    scenarios = chosen(arguments.words)
    if arguments.rowcast:
        COMMANDS["rowcast"] = shlex.split(arguments.rowcast)
    if arguments.list:
        for scenario in scenarios:
            print(f"{scenario.path.name}: {scenario.title} ({', '.join(scenario.covers)})")
        print(f"{len(scenarios)} scenarios")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="rowcast-compat-certificates-"))
    began = time.monotonic()
    try:
        certificates.make(folder)
        run = Run(arguments, folder)
        trio.run(run.all, scenarios)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.only:
        for scenario in scenarios:
            _print_transcript(run, scenario.title, arguments.only, arguments.logs)
    if not arguments.only and not mosquitto_version().endswith(LEDGER_VERSION):
        print(f"the ledger is about Mosquitto {LEDGER_VERSION}; this is {mosquitto_version()}")
    wrong = 0 if arguments.only else report(run, scenarios, arguments)
    slowest = sorted(run.seconds.items(), key=lambda item: -item[1])[:3]
    print(
        f"{time.monotonic() - began:.1f} s; longest:", *(f"{title!r} {s:.1f} s;" for (title, _), s in slowest)
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
