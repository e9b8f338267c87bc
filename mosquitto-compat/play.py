"""Play the scenarios against Mosquitto and Rowcast and compare: `make compat`.

With `-V 5` every scenario that can be is played by clients of MQTT 5.0.  What differs just as in 3.1.1 stands in
`ledger.txt`, what differs in 5.0 alone in `ledger5.txt`.

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
from player.version5 import in_version_5  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "words", nargs="*", help="play only scenarios whose file or title contains all of these"
    )
    parser.add_argument(
        "-V",
        "--protocol-version",
        choices=("3", "5"),
        default="3",
        help="of clients that a scenario leaves free",
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


def for_version(scenarios: list[Scenario], version: str) -> tuple[list[Scenario], dict[str, list[str]]]:
    """Those to play, and the titles of those that are not, by the reason."""
    if version != "5":
        return scenarios, {}
    played: list[Scenario] = []
    left_out: dict[str, list[str]] = {}
    for scenario in scenarios:
        found = in_version_5(scenario)
        if isinstance(found, str):
            left_out.setdefault(found, []).append(f"{scenario.path.name}: {scenario.title}")
        else:
            played.append(found)
    return played, left_out


def read_ledgers(version: str) -> tuple[dict[str, compare.Entry], dict[str, compare.Entry]]:
    """What explains a difference, and what is looked at where the first says nothing, or something else."""
    common = compare.read_ledger(HERE / "ledger.txt")
    return (compare.read_ledger(HERE / "ledger5.txt"), common) if version == "5" else (common, {})


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
    ledger, common = read_ledgers(arguments.protocol_version)
    alike = explained = wrong = 0
    for scenario in scenarios:
        theirs, ours = (run.transcripts[scenario.title, kind] for kind in ("mosquitto", "rowcast"))
        found, entry = compare.differences(theirs, ours), ledger.get(scenario.title)
        if compare.is_explained(found, entry) or (
            not entry and compare.is_explained(found, common.get(scenario.title))
        ):
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
    scenarios, left_out = for_version(chosen(arguments.words), arguments.protocol_version)
    if arguments.rowcast:
        COMMANDS["rowcast"] = shlex.split(arguments.rowcast)
    if arguments.list:
        for scenario in scenarios:
            print(f"{scenario.path.name}: {scenario.title} ({', '.join(scenario.covers)})")
        print(f"{len(scenarios)} scenarios")
        for reason, titles in left_out.items():
            print(f"not played, {reason}:", *titles, sep="\n  ")
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
    for reason, titles in left_out.items():
        print(f"{len(titles)} are not played with 5.0: {reason} (--list names them)")
    slowest = sorted(run.seconds.items(), key=lambda item: -item[1])[:3]
    print(
        f"{time.monotonic() - began:.1f} s; longest:", *(f"{title!r} {s:.1f} s;" for (title, _), s in slowest)
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
