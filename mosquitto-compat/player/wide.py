"""Draws wider sequences: what the groups of `manner.GROUPS` add to those of `drawing`.

What `ledger.txt` explains is not drawn here either.
"""

from __future__ import annotations

import re
from random import Random
from typing import Final

from player import drawing, hostile5, packets
from player.drawing import ACTORS, IDS, LANE, NO_RETAINED, Wanderer
from player.manner import Manner

ROOT: Final = ("$x", "$x/a", "$SYS/a", "$", "$x/", "/", "//", "a/$x")
ROOT_FILTERS: Final = ("$x/+/#", "$x/+", "+/a", "$x", "$SYS/a", "/#", "//", "+/", "/+/+", "$x/a")
WIDER_CONNECT: Final = (
    "receive-maximum=300",
    "receive-maximum=65535",
    "maximum-packet-size=400",
    "maximum-packet-size=100",
    "topic-alias-maximum=10",
    "topic-alias-maximum=0",
    "request-problem-information=0",
    "request-problem-information=1",
    "request-response-information=1",
    "user-property=a:1,a:2",
)
WIDER_WILL: Final = (
    "will.will-delay-interval=0",
    "will.payload-format-indicator=1",
    "will.message-expiry-interval=100000",
    "will.response-topic=a/b will.correlation-data=d",
)
WIDER_PUBLISH: Final = (
    " message-expiry-interval=100000",
    " topic-alias=3 user-property=a:1",
    " topic-alias=10",
    " topic-alias=11",
    " payload-format-indicator=0 content-type=",
    " correlation-data=",
    " user-property=:,a:,:b",
)
TOPIC: Final = re.compile(r"publish '[^']*'")
ALIAS: Final = re.compile(r" topic-alias=(\d+)")
FRAMES: Final = ("whole", "bytes", "parts", "fragments", "pings", "joined")
EARLIEST_STOP: Final = 8


class WideWanderer(Wanderer):
    """Draws steps of some groups among those that are drawn anyway."""

    def __init__(self, random: Random, manner: Manner, lane: str = LANE) -> None:
        super().__init__(random, manner, lane)
        self._manner = manner
        self._slow: set[str] = set()
        self._turned = False
        self._aliases: dict[str, set[str]] = {}
        """Those that a connection has used."""
        if manner.is_at_root:
            self.topics, self.plain = drawing.TOPICS + ROOT, drawing.PLAIN + ROOT
            self.filters = drawing.FILTERS + ROOT_FILTERS
        self._stop = random.randrange(EARLIEST_STOP, drawing.STEPS - EARLIEST_STOP)

    def steps(self) -> list[str]:
        steps: list[str] = []
        for number in range(drawing.STEPS):
            if self._manner.has("restart") and number == self._stop:
                steps += self._restart()
            steps += self._drawn(self._random.choice(ACTORS))
        steps += [f"{actor}: resume" for actor in sorted(self._slow)]
        if self._turned:
            steps.append("broker: turn")
        return steps

    def _restart(self) -> list[str]:
        """Whoever has a will leaves before: whether it is published at a stop is each one's own."""
        left: list[str] = []
        for actor in filter(self._here.get, ACTORS):
            if self._random.random() < 0.5:
                topic = self._within(actor, self._random.choice(self.plain))
                left += [f"{actor}: manual", f"{actor}: publish '{topic}' held qos=2 id=7"]
            left.append(f"{actor}: drop")
        self._here = dict.fromkeys(ACTORS, False)
        self._slow.clear()
        return [*left, "broker: restart"]

    def _drawn(self, actor: str) -> list[str]:
        random, has = self._random, self._manner.has
        if has("reload") and random.random() < 0.05:
            self._turned = not self._turned
            return ["broker: turn"]
        if self._here[actor]:
            if has("restart") and random.random() < 0.1:
                return [f"{actor}: raw {packets.short(6, 7).hex(' ')}"]
            if actor in self._slow:
                # Who says nothing wrong is not reset, and so gets what came before.
                self._slow.discard(actor)
                self._here[actor] = random.random() < 0.8
                return [f"{actor}: {'resume' if self._here[actor] else 'drop'}"]
            if has("slow") and random.random() < 0.1:
                self._slow.add(actor)
                return [f"{actor}: pause"]
            if has("bytes") and random.random() < 0.15:
                return [self._bytes(actor)]
            may_share = self._id[actor] in self._of_5 and not self._is_mounted(actor)
            if has("share") and may_share and random.random() < 0.15:
                return [self._share(actor)]
            if has("five") and random.random() < 0.2 and self._version[actor] == 5:
                return [f"{actor}: raw {hostile5.packet(random, self._named(actor)).hex(' ')}"]
        elif has("five") and random.random() < 0.1:
            return [f"{actor}: first {hostile5.connect(random, self._lane).hex(' ')}"]
        step = self._step(actor)
        if ": unsubscribe '$" in step and self._version[actor] == 5:
            return [f"{actor}: ping"]  # 2.0 knows no 0x11 there
        if ": connect " in step or not self._here[actor]:
            self._slow.discard(step.partition(":")[0])
        return [self._wider(actor, step)]

    def _named(self, actor: str) -> hostile5.Named:
        return hostile5.Named(
            [self._within(actor, topic).encode() for topic in self.plain],
            [self._within(actor, one).encode() for one in self.filters],
            IDS[self._id[actor]],
            self._willing[actor],
            self._id[actor] not in self._of_5,
            1 if self._manner.has("listeners") else 2,
        )

    def _wider(self, actor: str, step: str) -> str:
        """With options of the groups."""
        has = self._manner.has
        if ": connect " in step:
            return self._wider_connect(actor, step)
        if has("websocket"):
            step = step.replace(" code=4", "")  # 2.0 does not close
        if "publish ''" in step:  # which of two mistakes is told is each one's own
            step = step.replace(" retain=1", " retain=0") if has("noretain") else step
            step = step.replace(" qos=2", " qos=1") if has("listeners") else step
        if ": publish " in step and self._version[actor] == 5 and has("five"):
            return self._wider_publish(actor, step)
        return step

    def _wider_publish(self, actor: str, step: str) -> str:
        """With properties, where there are none, or under an alias, which may have stood for another topic before."""
        random, known = self._random, self._aliases.setdefault(actor, set())
        if "-" not in step and random.random() < 0.2:
            step += random.choice(WIDER_PUBLISH)
        elif "-" not in step and not self._with_rules and random.random() < 0.5:
            alias = random.choice(("1", "2"))
            if alias in known and random.random() < 0.5:
                step = TOPIC.sub("publish ''", step)
            step += f" topic-alias={alias}"
        if (found := ALIAS.search(step)) and "publish ''" not in step:
            known.add(found[1])
        return step

    def _wider_connect(self, actor: str, step: str) -> str:
        random, has = self._random, self._manner.has
        of_5 = self._version[actor] == 5
        self._aliases.pop(actor, None)
        if has("restart") and of_5:
            step = step.replace(" clean=1", " clean=0")  # 2.0 does not save what began with clean start
            self._resuming[actor] = True
        if has("five") and of_5 and self._is_fleeting(actor, step) and random.random() < 0.3:
            step = step.replace(f" id={self._lane}{self._id[actor]} ", " id= ")
        words = [step]
        if has("five") and of_5:
            words += random.sample(WIDER_CONNECT, k=random.choice((0, 0, 1, 2, 3)))
            if "will.topic" in step:
                words += random.sample(WIDER_WILL, k=random.choice((0, 1, 2)))
        if has("listeners") and random.random() < 0.5:
            # Below max_qos the subscriptions of one client would have several.
            words.append(f"port={random.choice(('porta', 'porte', 'portq')[: 3 - (self._id[actor] == 'z')])}")
        if has("websocket") and random.random() < 0.7 and "port=" not in step:
            words.append(f"port=portw over=ws frames={random.choice(FRAMES)}")
        if has("bytes") and random.random() < 0.3:
            words.append(f"cuts={random.randint(1, 9)}")
        # Of several that give the same property the last one counts, as of any option.
        return " ".join(words)

    def _is_fleeting(self, actor: str, step: str) -> bool:
        """Whether its session ends with the connection, so that it needs no client id."""
        return (
            " clean=1 " in step
            and "session-expiry" not in step
            and self._id[actor] not in self._of_5
            and not self._manner.has("listeners")
        )

    def _bytes(self, actor: str) -> str:
        """Several packets at once; at times it is the last that this connection sends, or half of it is."""
        random = self._random
        several = [self._packet(actor) for _ in range(random.randint(2, 6))]
        several = [one for one in several if one[0] >> 4 != 1 and self._fits(actor, one)]
        # What is retained comes in turns behind other answers, and once where it is asked for again meanwhile.
        asking = [one for one in several if one[0] >> 4 == 8][:1]
        several = [one for one in several if one[0] >> 4 != 8] + asking
        kind = random.choice(("raw", "raw", "end", "cut", "reset"))
        if self._manner.has("websocket") and kind in ("end", "cut"):
            kind = "raw"  # 2.0 does not send there what it has to say before it closes
        if kind == "reset" or not several:
            self._here[actor] = False
            return f"{actor}: reset"
        data = b"".join(several)
        if kind == "cut":
            data += several[-1][: random.randrange(1, len(several[-1]))]
        if kind != "raw":
            self._here[actor] = False
            return f"{actor}: end {data.hex(' ')}"
        return f"{actor}: raw {data.hex(' ')}"

    def _fits(self, actor: str, packet: bytes) -> bool:
        """Packets of 3.1.1 are no right ones in 5.0, where the first that is wrong is the last; so only short ones."""
        return self._version[actor] != 5 or packet[0] >> 4 in (4, 5, 6, 7, 12)

    def _share(self, actor: str) -> str:
        random = self._random
        name = self._id[actor]
        shared = self._within(actor, random.choice(drawing.FILTERS))  # below $ those of 2.0 match nothing
        of = f"$share/{self._lane}g{name}{random.randint(1, 2)}/{shared}"
        if random.random() < 0.3:
            return f"{actor}: unsubscribe '{of}'"
        options = IDS[name] | self._of_5.get(name, 0) & ~drawing.NO_LOCAL | NO_RETAINED
        more = " subscription-identifier=7" if name in self._of_5 else ""
        return f"{actor}: subscribe '{of}' {options}{more}"

    def _may_publish(self, actor: str, topic: str) -> bool:
        if not self._with_rules or not self._turned:
            return super()._may_publish(actor, topic)
        return self._id[actor] != "x" or topic != "a/b"


def wanderer(seed: int, manner: Manner, lane: str) -> Wanderer:
    """Whoever draws what this seed draws."""
    return (
        Wanderer(Random(seed), manner, lane)
        if manner.groups <= CONFIGURED
        else WideWanderer(Random(seed), manner, lane)
    )


CONFIGURED: Final = frozenset({"queue0", "upgrade"})
"""Groups that only configure the brokers."""
