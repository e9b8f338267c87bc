"""Play random, often hostile sequences to Mosquitto and to Rowcast, and show what differs, cut down to a scenario.

    .venv/bin/python mosquitto-compat/wander.py --seconds 3600
    .venv/bin/python mosquitto-compat/wander.py --rules --seconds 3600    users with rules, and a mount point
    .venv/bin/python mosquitto-compat/wander.py --seed 1764 --plays 1     the one that was printed, again

Many sequences go to the same two processes, one after another: in between all sessions and retained messages are ended.

Steps are those of the scenarios.  What `ledger.txt` explains is not drawn: flags and lengths that 2.0 lets pass,
overlapping subscriptions of different QoS, shared subscriptions, a window that is full, names below `$`, a second
CONNECT on the connection of a session that lasts or has a will, one of 5.0 with a will that is taken over, PUBLISH that
the rules forbid under the id of one that is held, a subscription with no local that wants what is retained.

Exit status 0: nothing differed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Final

import trio

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from player import compare, packets  # noqa: E402
from player.play import play  # noqa: E402
from player.scenario import Scenario, parse_step  # noqa: E402

CONF: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 500
max_packet_size 2000000
"""
RULES_CONF: Final = """\
listener {port} 127.0.0.1
listener {port2} 127.0.0.1
mount_point m/
allow_anonymous true
acl_file {dir}/rules
max_inflight_messages 500
max_packet_size 2000000
"""
RULES: Final = """\
topic readwrite m/#
topic read a/#
user alice
topic readwrite #
topic deny b
user bob
topic read a/#
topic write b
pattern readwrite %c/#
"""
AS_WHOM: Final = {"x": " user=alice", "y": " user=bob", "z": " port=port2"}
"""With rules each client id is always the same client's: what Mosquitto does where that changes is not to be done."""
ACTORS: Final = ("A", "B", "C")
IDS: Final = {"x": 0, "y": 1, "z": 2}
"""Client ids; each subscribes with one QoS, since 2.0 chooses another one than 2.1 where filters overlap."""
TOPICS: Final = ("a", "a/b", "a/b/c", "/", "/a", "a/", "b", "b//c", "ä", "a+", "", "a/+", "#", "a#b")
FILTERS: Final = ("#", "+", "a", "a/b", "a/#", "+/b", "+/#", "/+", "a/+/c", "b//c", "+/+/+", "a/", "ä")
BAD_FILTERS: Final = ("", "a#", "#/a", "a/+b", "+a", "a/#/b")
PAYLOADS: Final = ("", "1", "2", "x", "hex:00ff", "zeros:300", "zeros:70000")
STEPS: Final = 40
KNOWN: Final = (
    re.compile(r"[+] . < DISCONNECT code=8e"),
    re.compile(r"[-] . < CONNACK present=0 code=[12]"),
    re.compile(r"[+] . < CONNACK 20 03 00 84 00"),
    re.compile(r"[-+] . < DISCONNECT code=8[12]"),
    re.compile(r"- . < PUBREL id=…(?: code=00)?"),
)
"""What the ledger explains and no choice of steps avoids: 2.0 says nothing to a client of 5.0 that is taken over, and
answers levels that it does not know in the words of 3.1.1, and an empty client id before it has read the rest.  Which
of malformed and protocol error a client of 5.0 is told differs by packet:
tests/protocol/mqtt/v5/test_cases5_against_mosquitto.py has the list.  Each of several copies of QoS 2 has its
PUBREL."""
ASKING: Final = re.compile(r"-- \w+: (?:subscribe|raw) ")
PUBLISHED: Final = re.compile(r" < PUBLISH ")
LIVE: Final = re.compile(r" < PUBLISH (?!.* retain qos=)")
NO_LOCAL: Final = 4
RETAIN_AS_PUBLISHED: Final = 8
IF_NEW: Final = 16
NO_RETAINED: Final = 32
LASTING: Final = (RETAIN_AS_PUBLISHED, NO_LOCAL | NO_RETAINED, RETAIN_AS_PUBLISHED | NO_LOCAL | NO_RETAINED)
PROPERTIES: Final = (
    " user-property=a:1,b:2,a:3",
    " content-type=c response-topic=a/b correlation-data=d",
    " payload-format-indicator=1",
    " topic-alias=1",
    " topic-alias=2",
)
RETAINED: Final = re.compile(r"(.*) < PUBLISH .* retain qos=")
MANY_TIMES: Final = re.compile(r"( subscription-identifier=7)\1+")
NOBODY: Final = re.compile(r"( < PUB(?:ACK|REC) .*)code=10")
COMING: Final = re.compile(r"-- (\w+): (?:connect|first) ")
MOUNTED: Final = re.compile(r" +(\w+) < PUBLISH 'm/")
SENT: Final = re.compile(r"( < (?:PUBLISH .* |PUBREL |PUBCOMP ))id=\d+")
BATCH: Final = 60
"""Sequences for one pair of processes."""
BATCH_S: Final = 600.0
RESET: Final = (
    "A: connect id=x clean=1",
    "B: connect id=y clean=1",
    "C: connect id=z clean=1",
    "R: connect id=q clean=1 user=alice",
    *(f"R: publish '{topic}' '' retain=1 &" for topic in TOPICS[:9]),
    "R: ping",
)
RULES_RESET: Final = (
    "R: connect id=z clean=1 port=port2",
    *(f"R: publish '{topic}' '' retain=1 &" for topic in TOPICS[:9]),
    "R: ping",
)
LOOK: Final = ("R: connect id=q clean=1 user=alice", "R: subscribe '#' 2")
"""The last steps of each sequence: what is retained by then."""


class Wanderer:
    """Draws steps, and keeps just enough in mind to draw some that fit."""

    def __init__(self, random: Random, with_rules: bool = False) -> None:
        self._random = random
        self._with_rules = with_rules
        self._id = dict.fromkeys(ACTORS, "x")
        self._version = dict.fromkeys(ACTORS, 4)
        self._here = dict.fromkeys(ACTORS, False)
        self._lasting = dict.fromkeys(ACTORS, False)
        """Whose session outlives the connection."""
        self._once = dict.fromkeys(ACTORS, False)
        """Who says CONNECT only once: the session lasts, or there is a will."""
        self._willing = dict.fromkeys(ACTORS, False)
        """Who has a will."""
        self._of_5 = {name: random.choice(LASTING) for name in IDS if random.random() < 0.3}
        """Ids whose clients all speak 5.0: subscriptions have an identifier, and options that stay (in 2.0 they do)."""

    def steps(self) -> list[str]:
        return [self._step(self._random.choice(ACTORS)) for _ in range(STEPS)]

    def _step(self, actor: str) -> str:
        random = self._random
        if not self._here[actor] or random.random() < 0.08:
            if random.random() < 0.12:
                taken = {self._id[other] for other in ACTORS if self._forgets_will(other)}
                return f"{actor}: first {self._broken(self._packet(actor, taken)).hex(' ')}"
            return self._connect(actor)
        kind = random.choices(
            ("publish", "subscribe", "unsubscribe", "ack", "raw", "disconnect", "drop", "ping", "mode"),
            (40, 20, 6, 12, 8, 5, 5, 2, 4),
        )[0]
        if kind == "publish":
            return self._publish(actor)
        if kind == "subscribe":
            filters = random.choices(
                FILTERS if random.random() < 0.93 else BAD_FILTERS, k=random.randint(1, 3)
            )
            return self._subscribe(actor, list(dict.fromkeys(filters)))
        if kind == "unsubscribe" and not self._is_mounted(actor):
            return f"{actor}: unsubscribe '{random.choice(FILTERS)}'"
        if kind == "ack":
            verb = random.choice(("puback", "pubrec", "pubrel", "pubcomp"))
            return f"{actor}: {verb} {self._acknowledged(actor)}"
        if kind in ("raw", "unsubscribe"):
            whole = self._packet(actor)
            return f"{actor}: raw " + (self._broken(whole) if random.random() < 0.6 else whole).hex(" ")
        if kind == "mode":
            return f"{actor}: {random.choice(('manual', 'auto'))}"
        if kind in ("disconnect", "drop"):
            self._here[actor] = False
        if kind == "disconnect" and self._version[actor] == 5 and random.random() < 0.5:
            kind += random.choice((" code=4", " session-expiry-interval=0", " session-expiry-interval=300"))
        return f"{actor}: {kind}"

    def _subscribe(self, actor: str, filters: list[str]) -> str:
        """With 5.0 some want nothing of their own, and retained messages if the subscription is new, or never."""
        random, name = self._random, self._id[actor]
        options, more = IDS[name] | self._of_5.get(name, 0), ""
        if name in self._of_5:
            more = " subscription-identifier=7"
        if self._version[actor] == 5 and not options & NO_LOCAL:
            options |= random.choice((0, 0, IF_NEW, NO_RETAINED))
        return f"{actor}: subscribe " + " ".join(f"'{one}' {options}" for one in filters) + more

    def _acknowledged(self, actor: str) -> str:
        """Whose id: which one a message has depends on copies, and on the order of what is retained."""
        random = self._random
        if self._version[actor] == 5:
            return random.choice(("1", "65535"))  # its first is the first
        if random.random() < 0.1:
            return "65535"
        topic = random.choice(TOPICS[:9])
        return f"'@{topic},m/{topic}'" if self._is_mounted(actor) else f"'@{topic}'"

    def _forgets_will(self, actor: str) -> bool:
        """2.0 does so where a client of 5.0 is taken over and its session lasts."""
        return (
            self._here[actor] and self._willing[actor] and self._version[actor] == 5 and self._lasting[actor]
        )

    def _may_publish(self, actor: str, topic: str) -> bool:
        """Below the rules, if there are any."""
        name = self._id[actor]
        allowed = {"x": topic != "b", "y": topic == "b", "z": True}
        return allowed[name] or not self._with_rules

    def _is_mounted(self, actor: str) -> bool:
        """Below a mount point 2.0 does not find what it is to unsubscribe from."""
        return self._with_rules and self._id[actor] == "z"

    def _connect(self, actor: str) -> str:
        random = self._random
        name = random.choice(tuple(IDS))
        for other in ACTORS:
            # The own will would be on its way while the CONNECT is: whom it meets in which session is chance.
            is_mine = other == actor and self._here[other] and self._willing[other]
            if is_mine or (self._id[other] == name and self._forgets_will(other)):
                self._here[other] = False
                return f"{other}: drop"
        version = 5 if name in self._of_5 else random.choice((3, 4, 4, 5, 5))
        clean = random.randint(0, 1)
        self._id[actor], self._version[actor], self._here[actor] = name, version, True
        self._lasting[actor] = version != 5 and not clean
        words = [f"{actor}: connect id={name} clean={clean}"]
        if self._with_rules:
            words.append(AS_WHOM[name].strip())
        if random.random() < 0.3:
            words.append("manual")
        if version == 3:
            words.append("name=MQIsdp level=3")
        if version == 5:
            words.append("version=5")
            if random.random() < 0.7:
                expiry_s = random.choice((0, 300, 4294967295))
                self._lasting[actor] = expiry_s > 0
                words.append(f"session-expiry-interval={expiry_s}")
        has_will = random.random() < 0.4
        self._willing[actor] = has_will
        self._once[actor] = has_will or self._lasting[actor]
        if has_will:
            topic = random.choice(TOPICS[:9])
            words.append(f"will.topic='{topic}' will.payload=gone will.qos={random.randint(0, 2)}")
            words.append(f"will.retain={random.randint(0, 1)}")
            if version == 5 and random.random() < 0.3:
                words.append("will.content-type=c will.user-property=a:1,b:2")
        return " ".join(words)

    def _publish(self, actor: str) -> str:
        random = self._random
        topic = random.choice(TOPICS[:9] if random.random() < 0.95 else TOPICS)
        qos, retain = random.randint(0, 2), int(random.random() < 0.3)
        more = " id=7" if qos and random.random() < 0.15 else ""
        if (more or self._lasting[actor]) and not self._may_publish(actor, topic):
            qos = min(qos, 1)  # as QoS 2 it would be the end of one that is held under its id
        dup = f" dup={random.randint(0, 1)}" if qos else ""
        if self._version[actor] == 5 and random.random() < 0.4:
            more += random.choice(PROPERTIES)
            if "alias" in more and random.random() < 0.5:
                topic = ""
        return f"{actor}: publish '{topic}' {random.choice(PAYLOADS)!r} qos={qos} retain={retain}{dup}{more}"

    def _packet(self, actor: str, taken: set[str] | None = None) -> bytes:
        """One that is right by itself; with client ids that are taken it is a CONNECT."""
        random = self._random
        if taken is not None or (not self._once[actor] and random.random() < 0.1):
            ids = [name.encode() for name in ("x", "y", "q", "") if name not in (taken or ())]
            return packets.connect(client_id=random.choice(ids), clean=random.random() < 0.6)
        topic = random.choice(TOPICS).encode()
        kind = random.randrange(5)
        if kind == 0:
            qos = random.randrange(3 if self._may_publish(actor, topic.decode()) else 2)
            return packets.publish(topic, b"raw", qos, False, False, random.choice((0, 1, 7)))
        if kind == 1:
            qos = IDS[self._id[actor]]
            # 2.0 subscribes to what stands before the broken part of a packet; here it is broken as a whole.
            many = 1 if self._lasting[actor] else 2
            return packets.subscribe(random.choice((0, 1)), [(random.choice(FILTERS).encode(), qos)] * many)
        if kind == 2 and not self._is_mounted(actor):
            return packets.unsubscribe(1, [random.choice((*FILTERS, *BAD_FILTERS)).encode()])
        if kind == 3:
            return packets.short(random.choice((4, 5, 6, 7)), random.choice((0, 1, 2, 7, 65535)))
        return packets.PINGREQ

    def _broken(self, whole: bytes) -> bytes:
        """Change a byte of the body, or say another length than it has; not the QoS of a subscription, see `IDS`."""
        random = self._random
        data = bytearray(whole)
        end = len(data) - (data[0] == 0x82)
        if len(data) > 2 and random.random() < 0.8:
            data[random.randrange(2, end)] = random.choice((0, 1, 0x23, 0x2B, 0x2F, 0x7F, 0x80, 0xC0, 0xFF))
        elif len(data) > 3:
            del data[-1]
            data[1] = len(data) - 2 if len(data) < 128 else data[1]
        return bytes(data)


def evened_out(transcript: list[str]) -> list[str]:
    """Without its own will, which a client of Mosquitto gets just before it is closed."""
    kept: list[str] = []
    for line in transcript:
        if line.endswith("< closed"):
            own = re.compile(re.escape(line.removesuffix("closed")) + r"PUBLISH .* 'gone' .*")
            start = max((at for at, text in enumerate(kept) if text.startswith("-- ")), default=0)
            kept[start:] = [text for text in kept[start:] if not own.fullmatch(text)]
        kept.append(line)
    return kept


def in_as_many_copies(theirs: list[list[str]], ours: list[list[str]]) -> list[list[str]]:
    """Mosquitto's steps, without the copies that it sends beyond Rowcast's.

    2.0 sends a client of 5.0 a copy for each filter that matches, Rowcast one with all identifiers.  What is retained
    comes once for each filter from both, where somebody subscribes; elsewhere the flag says how it was published.
    """
    evened: list[list[str]] = []
    for at, step in enumerate(theirs):
        may_come = Counter(ours[at]) if at < len(ours) else Counter[str]()
        kept: list[str] = []
        for line in step:
            is_live = (LIVE if ASKING.match(step[0]) else PUBLISHED).search(line)
            if is_live and line in kept and may_come[line] <= 0:
                continue
            may_come[line] -= 1
            kept.append(line)
        evened.append(kept)
    return evened


def without_ids(transcript: list[str]) -> list[str]:
    """Which packet ids a broker gives depends on its copies; the scenarios compare them.  And 0x10 is 0.

    2.0 counts those who may not read a message to those who got it.  Nor does it matter how often one copy has the one
    identifier of several subscriptions.
    """
    return [
        line
        if line.startswith("-- ")
        else MANY_TIMES.sub(r"\1", SENT.sub(r"\1id=…", NOBODY.sub(r"\1code=00", line)))
        for line in transcript
    ]


def in_one_order(transcript: list[str]) -> list[str]:
    """The retained messages that a client gets at one step, sorted: no standard says in which order they come."""
    kept = list(transcript)
    places: dict[str, list[int]] = {}
    for at, line in enumerate([*transcript, "-- "]):
        if line.startswith("-- "):
            for found in places.values():
                for place, text in zip(found, sorted(transcript[one] for one in found), strict=True):
                    kept[place] = text
            places.clear()
        elif got := RETAINED.match(line):
            places.setdefault(got[1], []).append(at)
    return kept


def with_releases_last(transcript: list[str]) -> list[str]:
    """PUBREL behind what else a client got at one step: whether its PUBREC met messages on their way is chance."""

    def place(line: str) -> int:
        return 2 if line.endswith(" < closed") else 1 if " < PUBREL " in line else 0

    found: list[str] = []
    for _, lines in groupby(transcript, lambda line: line.partition(" < ")[0]):
        found += sorted(lines, key=place)
    return found


def without_mount_point(transcript: list[str]) -> list[str]:
    """Mosquitto 2.0 forgets to strip the mount point for whoever is below it."""
    mounted: set[str] = set()
    kept: list[str] = []
    for line in transcript:
        if coming := COMING.match(line):
            (mounted.add if "port=port2" in line else mounted.discard)(coming[1])
        elif (got := MOUNTED.match(line)) and got[1] in mounted:
            line = line.replace("PUBLISH 'm/", "PUBLISH '", 1)
        kept.append(line)
    return kept


async def differing(sequences: list[list[str]], with_rules: bool) -> list[list[str]]:
    """Play them to both, one after another; the differing lines of each."""
    scenario = Scenario("wandering", Path("wander"), conf=RULES_CONF if with_rules else CONF)
    scenario.files = {"rules": RULES}
    reset = (*RULES_RESET, *RESET) if with_rules else RESET
    sequences = [[*steps, *LOOK] for steps in sequences]
    texts = [text for steps in sequences for text in (*steps, *reset)]
    scenario.steps = [parse_step(text, number, "wander") for number, text in enumerate(texts)]
    transcripts: dict[str, list[str]] = {}

    async def one(kind: str) -> None:
        transcript, _ = await play(scenario, kind, Path("/nonexistent"), within_s=BATCH_S)
        if kind == "mosquitto":
            transcript = without_mount_point(transcript)
        transcripts[kind] = evened_out(in_one_order(with_releases_last(without_ids(transcript))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "mosquitto")
        nursery.start_soon(one, "rowcast")
    ours = compare.by_step(transcripts["rowcast"])
    theirs = in_as_many_copies(compare.by_step(transcripts["mosquitto"]), ours)
    found: list[list[str]] = []
    start = 1
    for steps in sequences:
        lines = compare.differing(theirs[start : start + len(steps)], ours[start : start + len(steps)])
        found.append([line for line in lines if not any(known.fullmatch(line) for known in KNOWN)])
        start += len(steps) + len(reset)
    if start != len(theirs) or start != len(ours):
        found[-1].append(f"one came to its end before: {theirs[-1][-1:]} {ours[-1][-1:]}")
    return found


async def shrunk(steps: list[str], with_rules: bool) -> tuple[list[str], list[str]]:
    """Fewer steps that still differ, and how; no lines if they do not when played alone."""
    [found] = await differing([steps], with_rules)
    size = len(steps) // 2
    while size and found:
        fewer = [steps[:at] + steps[at + size :] for at in range(0, len(steps), size)]
        fewer = [one for one in fewer if one]
        results = await differing(fewer, with_rules) if fewer else []
        still = next((at for at, lines in enumerate(results) if lines), None)
        if still is None:
            size //= 2
        else:
            steps, found = fewer[still], results[still]
            size = min(size, max(len(steps) // 2, 1)) if len(steps) > 1 else 0
    return steps, found


class Tour:
    """Sequences with seeds that follow one another, a batch at a time."""

    def __init__(self, first_seed: int, with_rules: bool, as_is: bool) -> None:
        self.seed = first_seed
        self.played = 0
        self.differed = 0
        self._with_rules = with_rules
        self._as_is = as_is

    async def batch(self, count: int) -> None:
        """Play so many, or up to the first that differs: what comes behind that one may differ because of it."""
        sequences = [
            Wanderer(Random(self.seed + number), self._with_rules).steps() for number in range(count)
        ]
        results = await differing(sequences, self._with_rules)
        first = next((at for at, lines in enumerate(results) if lines), None)
        if first is not None:
            await self._tell(self.seed + first, sequences[first], results[first])
        passed = count if first is None else first + 1
        self.seed += passed
        self.played += passed

    async def _tell(self, seed: int, steps: list[str], found: list[str]) -> None:
        self.differed += 1
        if not self._as_is:
            fewer, still = await shrunk(steps, self._with_rules)
            steps, found = (fewer, still) if still else (steps, ["not when played alone:", *found])
        print(f"[seed {seed}]", "steps:", *(f"  {step}" for step in steps), *found, "", sep="\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="example: wander.py --seconds 3600 --seed 1"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first sequence; the next is one more"
    )
    parser.add_argument("--plays", type=int, default=1 << 30, help="so many sequences at most")
    parser.add_argument("--rules", action="store_true", help="users with rules, and a mount point")
    parser.add_argument("--as-is", action="store_true", help="print what differs without cutting it down")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    tour = Tour(arguments.seed, arguments.rules, arguments.as_is)
    print(f"from seed {arguments.seed}", flush=True)
    while time.monotonic() < until and tour.played < arguments.plays:
        try:
            trio.run(tour.batch, min(BATCH, arguments.plays - tour.played))
        except Exception as error:  # the player's own, on an answer that it does not understand
            print(f"[seed {tour.seed} and on]", f"{type(error).__name__}: {error}", "", sep="\n", flush=True)
            tour.seed += BATCH
        print(f"{tour.played} sequences of {STEPS} steps, {tour.differed} differed", flush=True)
    return 1 if tour.differed else 0


if __name__ == "__main__":
    sys.exit(main())
