"""Cut the power without `acknowledge = "saved"`: what a save that had ended covered is there, the rest may be lost.

    PYTHONPATH=.:tests python tests/torture/unpromised.py --seed 3

Numbered messages go to a queue and to a retained topic; now and then all is saved, by the clock or behind changes.
Whatever moment the power is cut at, the file opens, and has the first so many messages, in the queue and as retained
alike: as many as the last save that had ended covered, or one that was under way.  The seed decides everything.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import define
from torture.disk import Disk, environment, fast_folder, leave

from broker.config.model import Persistence
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.database import open_database
from broker.storage.errors import StorageError
from broker.storage.keeper import Keeper, persistence_path
from protocol.mqtt.outbound import Window

MESSAGES: Final = 40
CUTS: Final = 20
SETTINGS: Final = ("clock", "changes")


@define
class Cut:
    """A moment at which the power went.

    Attributes:
        sure: so many messages were saved before.
        most: so many had been published.
    """

    record: bytes
    names: list[str]
    sure: int
    most: int


def settings_of(setting: str, folder: Path) -> Persistence:
    """Saves that the test asks for, or such as follow on each change."""
    follows = setting == "changes"
    return Persistence(True, folder, autosave_interval_s=1 if follows else 1800, autosave_on_changes=follows)


async def live(chance: random.Random, setting: str, folder: Path) -> list[Cut]:
    """A broker's life, and the cuts that it might have ended by."""
    disk = Disk()
    engine = Engine(window=Window(queued_messages=0))
    keeper = await Keeper.open(engine, settings_of(setting, folder))
    session, _ = engine.open_session(b"away", False)
    engine.subscribe_session(session, b"t", 1)
    await keeper.save()
    cuts: list[Cut] = []
    saved = 0
    moments = chance.sample(range(1, MESSAGES + 1), CUTS)
    for count in range(1, MESSAGES + 1):
        seen, sure = disk.position(), saved
        with engine.turn:
            engine.publish(Publication(b"t", b"%d" % count, 1))
            engine.publish(Publication(b"r", b"%d" % count, 1, True))
        if chance.random() < 0.5:
            await (keeper.settle() if setting == "changes" else keeper.save())
            saved = count
        if count in moments:
            until = chance.randint(seen, disk.position())
            cuts.append(Cut(disk.record(until), disk.names(), sure, count))
    await keeper.close()
    return cuts


def problem(cut: Cut, setting: str, left: Path) -> str:
    """What is wrong with what a cut left; "" if nothing is."""
    try:
        connection, found = open_database(persistence_path(settings_of(setting, left)))
    except StorageError as error:
        return f"the file does not open: {error}"
    with closing(connection):
        queued = [int(waiting.message.payload) for one in found.sessions for waiting in one.queued]
    retained = [int(publication.payload) for publication in found.retained]
    if not found.sessions or queued != list(range(1, len(queued) + 1)):
        return f"queued: {queued}"
    if retained != [len(queued)][: len(queued)]:
        return f"{len(queued)} are queued, {retained} is retained"
    return "" if cut.sure <= len(queued) <= cut.most else f"{len(queued)}, not {cut.sure} to {cut.most}"


async def one_life(seed: int, setting: str, folder: Path, *, syncs: bool) -> list[str]:
    """What was wrong after the cuts of one broker's life; in a process that was started with `environment`."""
    chance = random.Random(seed)
    nothing = folder / "nothing"
    nothing.mkdir()
    wrong: list[str] = []
    for number, cut in enumerate(await live(chance, setting, folder / "disk")):
        left = folder / f"left{number}"
        leave(nothing, cut.record, cut.names, chance, left, syncs=syncs)
        wrong.append(problem(cut, setting, left))
    return [f"{setting}, seed {seed}: {what}" for what in wrong if what]


def live_once(seed: int, setting: str, *, syncs: bool = True) -> list[str]:
    """`one_life` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=fast_folder(), prefix="rowcast-power-") as name:
        folder = Path(name)
        (folder / "disk").mkdir()
        command = [sys.executable, __file__, "--seed", str(seed), "--setting", setting, "--in", name]
        ended = subprocess.run(
            [*command, *([] if syncs else ["--lying-disk"])],
            env=environment(folder / "disk", folder) | {"PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=600,
        )
        return ended.stdout.splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--lives", type=int, default=10, help="of each setting; default: %(default)s")
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--lying-disk", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--in", type=Path, dest="folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder is not None:
        life = partial(one_life, args.seed, args.setting, args.folder, syncs=not args.lying_disk)
        print(*trio.run(life), sep="\n", end="")
        return 0
    wrong: list[str] = []
    for setting in SETTINGS:
        for seed in range(args.seed, args.seed + args.lives):
            wrong += live_once(seed, setting)
    print(
        f"{len(SETTINGS) * args.lives * CUTS} power cuts from seed {args.seed}: {len(wrong)} wrong",
        *wrong,
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
