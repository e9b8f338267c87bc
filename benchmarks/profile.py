"""Where the broker's time goes while a workload runs.

    python -m benchmarks.profile burst-100
    python -m benchmarks.profile qos2-1 --tool py-spy --interpreted
    python -m benchmarks.profile ping-pong --tool cprofile --interpreted

`perf` sees compiled functions, the interpreter and the kernel; `py-spy` (installed beside the peers) sees Python
frames and, with --native, compiled ones; `cprofile` needs nothing, counts calls exactly and slows everything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pstats
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from benchmarks.machine import allow_open_files, output_of, pin_generator
from benchmarks.measurement import Clocks, Measurement, Target
from benchmarks.peers import rowcast
from benchmarks.peers.kinds import Peer, Unavailable, Word
from benchmarks.peers.others import CACHE, MOSQUITTO, install_from_pypi, write_mosquitto_conf
from benchmarks.peers.process import running
from benchmarks.workloads.catalogue import BY_NAME, Workload

_CONNECTED_S_MAX: Final = 120


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    workload = BY_NAME[options.workload]
    peer = _peer(options)
    print(f"{peer.name} {peer.install()}: {workload.title}")
    pin_generator()
    allow_open_files(40_000)
    with tempfile.TemporaryDirectory(prefix="rowcast-profile-") as name:
        directory = Path(name)
        if options.tool == "cprofile":
            _under_cprofile(peer, workload, options.seconds, directory)
            return 0
        watch = {"perf": _perf, "py-spy": _py_spy}[options.tool]
        with peer.start(directory, workload.needs) as target:
            measured = _while_running(
                workload, target, options.seconds, lambda: watch(target, options.seconds, directory)
            )
    _print_measured(measured)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "workload", choices=list(BY_NAME), metavar="WORKLOAD", help="as python -m benchmarks --list"
    )
    parser.add_argument("--tool", choices=("perf", "py-spy", "cprofile"), default=_best_tool())
    parser.add_argument("--interpreted", action="store_true", help="profile the interpreted install")
    parser.add_argument(
        "--mosquitto", action="store_true", help="profile Mosquitto, for comparison (perf only)"
    )
    parser.add_argument("--seconds", type=float, default=4.0)
    return parser


def _best_tool() -> str:
    return "perf" if shutil.which("perf") else "py-spy"


def _peer(options: argparse.Namespace) -> Peer:
    if options.mosquitto:
        return MOSQUITTO
    return rowcast.INTERPRETED if options.interpreted else rowcast.COMPILED


def _while_running(
    workload: Workload, target: Target, seconds: float, watch: Callable[[], None]
) -> Measurement | None:
    """Run the workload in another process and watch the broker meanwhile."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_generate, args=(theirs, workload, target, seconds + 1))
    child.start()
    theirs.close()
    try:
        if ours.poll(_CONNECTED_S_MAX):
            ours.recv()
            watch()
        while ours.poll(120):
            said = ours.recv()
            if isinstance(said, Measurement):  # and no more "measuring", which some workloads do twice
                return said
        return None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


def _generate(told: Connection, workload: Workload, target: Target, seconds: float) -> None:
    Clocks.on_start = lambda: told.send("measuring")
    told.send(workload.run(target, seconds))


def _perf(target: Target, seconds: float, directory: Path) -> None:
    data = directory / "perf.data"
    record = ["perf", "record", "-q", "-F", "1999", "-e", "cpu-clock", "-p", str(target.pid), "-o", str(data)]
    subprocess.run([*record, "--", "sleep", str(seconds)], check=True, stderr=subprocess.DEVNULL)
    for sort, least in (("dso", "0.5"), ("dso,symbol", "0.7")):
        report = (
            "perf",
            "report",
            "-i",
            data,
            "--stdio",
            "--no-children",
            "--sort",
            sort,
            "--percent-limit",
            least,
        )
        for line in output_of(*report).splitlines():
            if line.strip() and not line.startswith("#"):
                print(_shorter(line))
        print()


def _shorter(line: str) -> str:
    """mypyc's names without their prefix: CPyDef_engine___Engine___publish → engine.Engine.publish."""
    return re.sub(r"CPyDef_(\w+)", lambda found: found.group(1).replace("___", "."), line).rstrip(" -")


def _py_spy(target: Target, seconds: float, directory: Path) -> None:
    install_from_pypi("py-spy")
    raw = directory / "stacks.txt"
    tool = CACHE / "py-spy" / "bin" / "py-spy"
    output_of(
        tool, "record", "-p", str(target.pid), "-d", str(int(seconds)), "-r", "500", "-f", "raw", "-o", raw
    )
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        within.update(dict.fromkeys(frames, int(count)))
    total = sum(own.values()) or 1
    print("   own  with callees")
    for frame, samples in own.most_common(30):
        print(f"{samples / total:6.1%} {within[frame] / total:6.1%}  {frame}")


def _under_cprofile(peer: Peer, workload: Workload, seconds: float, directory: Path) -> None:
    """Start the broker inside cProfile; its figures appear when SIGINT has ended it."""
    kind = "interpreted" if peer.name.endswith("interpreted") else "compiled"
    setting = write_mosquitto_conf(directory, workload.needs)
    python, figures = rowcast.venv_of(kind) / "bin" / "python", directory / "figures"
    command: list[Word] = [python, "-m", "cProfile", "-o", figures, "-m", "broker", "-c", setting.conf]
    with running(command, directory, setting.mqtt) as process:
        target = Target(peer.name, process.pid, process.start_ms, setting.mqtt, setting.websocket)
        _print_measured(_while_running(workload, target, seconds, lambda: None))
    pstats.Stats(str(figures), stream=sys.stdout).sort_stats("tottime").print_stats(35)


def _print_measured(measured: Measurement | None) -> None:
    if measured is not None:
        print(
            f"\n{measured.rate / 1e3:.1f} k/s, {measured.cpu_us:.2f} µs of broker CPU per message, slowed by watching"
        )


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Unavailable as error:
        raise SystemExit(str(error)) from error
