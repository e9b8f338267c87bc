"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from benchmarks import plots, report
from benchmarks.goals import verdicts
from benchmarks.machine import describe, output_of
from benchmarks.peers import bare, flashmq, floor, others, rowcast
from benchmarks.peers.kinds import Peer
from benchmarks.results import Results, load, save
from benchmarks.runner import install, run, say
from benchmarks.workloads.catalogue import WORKLOADS, Workload

HERE: Final = Path(__file__).parent
PEERS: Final = (
    rowcast.COMPILED,
    rowcast.INTERPRETED,
    others.MOSQUITTO,
    others.AEDES,
    others.AMQTT,
    others.WEBSOCKETS,
    bare.BARE_LISTEN,
    floor.FLOOR,
)
_T = TypeVar("_T")
EXAMPLES: Final = """
examples:
  python -m benchmarks                          everything, three rounds (about an hour)
  python -m benchmarks --quick                  the core against Mosquitto in two minutes
  python -m benchmarks --workloads burst-1,qos2-1 --peers Rowcast,Mosquitto --rounds 5
  python -m benchmarks --peer flashmq=/usr/bin/flashmq --rounds 5
  python -m benchmarks --peer rowcast=HEAD~10 --peers Rowcast   what ten commits changed
  python -m benchmarks --minutes 45             as many rounds of everything as that allows
  python -m benchmarks --list                   names of workloads and peers
  python -m benchmarks --report                 write the tables again from the last run
  python -m benchmarks.soak --minutes 60        does memory grow?
  python -m benchmarks.frozen                   what clients that stop reading cost the others
  python -m benchmarks.profile burst-100        where does the broker's time go?
  python -m benchmarks.micro                    match and codec alone, with this interpreter

What is measured is the commit at HEAD; BENCHMARKS_UNCOMMITTED=1 takes the working tree instead, and
BENCHMARKS_AS_INSTALLED=1 whatever was installed last, without building.
BENCHMARKS_PATIENCE_S=120 waits that long for what is owed, not 20 seconds, on a machine that others load.
It is installed for Debian's python3 where that can compile; BENCHMARKS_PYTHON=PATH names another one.
"""


def main(argv: Sequence[str] | None = None) -> int:
    began = time.monotonic()
    options = _parser().parse_args(argv)
    is_part = bool(options.quick or options.workloads or options.peers)
    output: Path = options.output or (others.CACHE / "PART.md" if is_part else HERE / "RESULTS.md")
    if options.list:
        _print_names()
        return 0
    if options.report:
        _write(load(_raw(output)), output)
        return 0
    wanted = _chosen(
        options.workloads, {w.name: w for w in WORKLOADS}, _quick() if options.quick else WORKLOADS
    )
    given = [_given(words) for words in options.peer or ()]
    listed = _quick_peers() if options.quick else PEERS
    peers = _chosen(options.peers, {p.name: p for p in (*PEERS, *given)}, listed)
    peers += [peer for peer in given if peer not in peers]
    versions = install(peers)
    seconds = options.seconds or (1.0 if options.quick else 3.0)
    results = Results(
        machine=describe(),
        commit=rowcast.commit_installed("compiled"),
        command=f"python -m benchmarks {shlex.join(argv if argv is not None else sys.argv[1:])}".strip(),
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        seconds=seconds,
        rounds=options.rounds or (1 if options.quick else 3),
        versions=versions,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that brokers are stopped on the way out
    raw = _raw(output)
    if options.resume:
        results = load(raw)
    run(
        results, wanted, [peer for peer in peers if peer.name in versions], lambda: save(results, raw),
        math.inf if options.minutes is None else began + options.minutes * 60,
    )  # fmt: skip
    if not options.workloads and not options.quick:
        results.micro = micro_figures([peer.name for peer in peers if peer.name in versions])
        save(results, raw)
    _write(results, output)
    return 0


def micro_figures(peers: Iterable[str]) -> dict[str, dict[str, float]]:
    """The micro-benchmarks under the interpreter of each Rowcast install among `peers`."""
    kinds = {rowcast.COMPILED.name: "compiled", rowcast.INTERPRETED.name: "interpreted"}
    figures = {}
    for name in peers:
        if name in kinds:
            say(f"parts alone, {name} …")
            printed = output_of(
                rowcast.venv_of(kinds[name]) / "bin" / "python",
                *("-P", HERE / "micro.py", "--json", "--certificate", others.made_certificate("ec")),
            )
            figures[name] = json.loads(printed)
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Rowcast against the brokers that can be installed beside it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the core: Rowcast and Mosquitto, one round")
    parser.add_argument("--workloads", metavar="NAMES", help="only these, comma-separated")
    parser.add_argument("--peers", metavar="NAMES", help="only these, comma-separated")
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME=PATH",
        help="beside the others: flashmq=PATH or nanomq=PATH, which is built already; "
        "or rowcast=COMMIT, an earlier version, built for it",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured (3; quick: 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long each is measured (3; quick: 1)")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="begin nothing after so long, and write the tables of what there is; --resume goes on from there",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where the tables go (benchmarks/RESULTS.md, or benchmarks/.cache/PART.md for a part); plots go beside it",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the last run, which was interrupted"
    )
    parser.add_argument("--list", action="store_true", help="print the names of workloads and peers")
    parser.add_argument("--report", action="store_true", help="write the tables of the last run again")
    return parser


def _chosen(names: str | None, known: Mapping[str, _T], otherwise: Iterable[_T]) -> list[_T]:
    if not names:
        return list(otherwise)
    missing = [name for name in names.split(",") if name not in known]
    if missing:
        raise SystemExit(f"unknown: {', '.join(missing)}; there are: {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def _given(words: str) -> Peer:
    """What `--peer` names: an earlier version of Rowcast, or a broker that is built."""
    return rowcast.earlier(words) if words.startswith("rowcast=") else flashmq.given(words)


def _quick() -> list[Workload]:
    return [workload for workload in WORKLOADS if workload.quick]


def _quick_peers() -> list[Peer]:
    return [rowcast.COMPILED, others.MOSQUITTO]


def _print_names() -> None:
    for workload in WORKLOADS:
        print(f"{workload.name:14} {workload.title}{'  (quick)' if workload.quick else ''}")
    print()
    print("peers:", ", ".join(peer.name for peer in PEERS))


def _raw(output: Path) -> Path:
    """Where the measurements behind that file of tables are."""
    return others.CACHE / f"{output.stem}.json"


def _write(results: Results, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.render(results))
    plots.draw(results, output.parent / "plots")
    say(f"\nwritten: {output}")
    for verdict in verdicts(results):
        if verdict.value is not None:
            say(f"  {verdict.word:12} {verdict.promise}: {verdict.value:.3g}")


if __name__ == "__main__":
    raise SystemExit(main())
