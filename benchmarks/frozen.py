"""A thousand WebSocket clients, a hundred of which stop reading: what the others notice, and what becomes of those.

    python -m benchmarks.frozen                     two minutes, against the compiled install
    python -m benchmarks.frozen --rounds 3
    python -m benchmarks.frozen --interpreted

All read one market channel of the exchange; half of those that freeze read a private channel instead.  Rounds with and
without frozen clients take turns on the same broker, with the same connections to serve and the same messages to send.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from benchmarks.arithmetic import Latency, median
from benchmarks.crowd import Crowd, Outcome
from benchmarks.machine import allow_open_files, pin_generator
from benchmarks.measurement import Target
from benchmarks.peers import rowcast
from benchmarks.peers.process import free_address, running

RATIO_MAX: Final = 1.2
_TOML: Final = """\
[security]
allow_anonymous = true

[[listener]]
port = {mqtt}
host = "127.0.0.1"

[[listener]]
port = {websocket}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["exchange"]

[admin]
port = {admin}

[websocket]
outbox_bytes_max = {outbox_bytes_max}

[websocket.exchange]
jwt = {{ secret = "{secret}", account = "uid" }}
"""


@frozen
class Setting:
    """How many clients, and how much is sent to each of them.

    What is sent has to exceed what the kernel holds for a client that does not read (about 270 KiB, see
    `KERNEL_SEND_BYTES`) and `outbox_bytes_max`, or nothing is to be seen.
    """

    clients: int = 1000
    frozen: int = 100
    messages_per_s: int = 25
    message_bytes: int = 4096
    seconds: float = 8.0
    outbox_bytes_max: int = 128 * 1024

    @property
    def memory_max(self) -> int:
        """What all frozen clients together may make the broker grow by: each its outbox, full."""
        return self.frozen * self.outbox_bytes_max


@contextmanager
def broker(command: Sequence[str | Path], directory: Path, setting: Setting) -> Iterator[Target]:
    """Rowcast, started by `command`, with an exchange and an admin port."""
    mqtt, websocket, admin = free_address(), free_address(), free_address()
    conf = directory / "rowcast.toml"
    conf.write_text(
        _TOML.format(
            mqtt=mqtt.port,
            websocket=websocket.port,
            admin=admin.port,
            secret=rowcast.SECRET,
            outbox_bytes_max=setting.outbox_bytes_max,
        )
    )
    with running([*command, "-c", conf], directory, mqtt) as process:
        facts = {"secret": rowcast.SECRET, "admin": str(admin.port)}
        yield Target("Rowcast", process.pid, process.start_ms, mqtt, websocket, facts)


def play(target: Target, setting: Setting, freeze: bool) -> Outcome:
    """One round: all connect, `setting.frozen` of them stop reading or don't, and messages flow."""
    crowd = Crowd(target, setting.clients - setting.frozen, setting.frozen)
    try:
        return crowd.play(setting.messages_per_s, setting.message_bytes, setting.seconds, freeze)
    finally:
        crowd.leave()


def mistakes(outcome: Outcome, setting: Setting) -> list[str]:
    """What a round with frozen clients shows that it should not."""
    found = []
    private = setting.frozen // 2
    market = setting.frozen - private
    if outcome.closed != private:
        found.append(f"{outcome.closed} of {private} frozen readers of a private channel were closed")
    if outcome.conflated != market:
        found.append(f"{outcome.conflated} of {market} frozen readers of market data were conflated")
    if outcome.memory_growth > setting.memory_max:
        found.append(f"memory grew by {outcome.memory_growth} bytes; {setting.memory_max} are allowed")
    return found


def main() -> int:
    options = _parser().parse_args()
    peer = rowcast.INTERPRETED if options.interpreted else rowcast.COMPILED
    kind = "interpreted" if options.interpreted else "compiled"
    print(f"{peer.name}: {peer.install()}", flush=True)
    pin_generator()
    setting = evolve(Setting(), seconds=options.seconds)
    allow_open_files(setting.clients + 200)
    ratios: list[float] = []
    wrong: list[str] = []
    command = [rowcast.venv_of(kind) / "bin" / "rowcast"]
    with (
        tempfile.TemporaryDirectory(prefix="rowcast-frozen-") as name,
        broker(command, Path(name), setting) as target,
    ):
        play(target, evolve(setting, seconds=2.0), freeze=False)  # to warm up
        for number in range(1, options.rounds + 1):
            without = play(target, setting, freeze=False)
            beside = play(target, setting, freeze=True)
            ratios.append(beside.latency.p99_us / without.latency.p99_us)
            wrong += mistakes(beside, setting)
            _say(number, "none frozen", without)
            _say(number, f"{setting.frozen} frozen", beside)
    return _verdict(ratios, wrong)


def _say(number: int, title: str, outcome: Outcome) -> None:
    latency: Latency = outcome.latency
    print(
        f"round {number}, {title:11}  p50 {latency.p50_us / 1e3:6.2f}  p99 {latency.p99_us / 1e3:6.2f}  "
        f"p99.9 {latency.p999_us / 1e3:6.2f} ms ({latency.samples} deliveries)  "
        f"broker {outcome.broker_share:3.0%}, generator {outcome.generator_share:3.0%}  "
        f"memory +{outcome.memory_growth / 1e6:.1f} MB  closed {outcome.closed}  conflated {outcome.conflated}",
        flush=True,
    )


def _verdict(ratios: list[float], wrong: list[str]) -> int:
    middle = median(ratios)
    print(
        f"p99 of those that read, beside frozen ones by without: {middle:.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}; goal: at most {RATIO_MAX:g})"
    )
    for line in wrong:
        print(f"wrong: {line}")
    return 0 if middle <= RATIO_MAX and not wrong else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frozen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs of rounds (5)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="of each round (8)")
    parser.add_argument("--interpreted", action="store_true", help="the interpreted install")
    return parser


if __name__ == "__main__":
    sys.exit(main())
