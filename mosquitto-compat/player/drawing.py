"""Draws the steps of random, often hostile sequences.

What `ledger.txt` explains is not drawn: flags and lengths that 2.0 lets pass, overlapping subscriptions of different
QoS, shared subscriptions, a window that is full, names below `$`, a second CONNECT on the connection of a session that
lasts or has a will, one of 5.0 with a will that is taken over, PUBLISH that the rules forbid under the id of one that
is held, a subscription with no local that wants what is retained.

Many sequences go to one pair of brokers at the same time.  Each has a lane: three characters that begin every topic,
filter and client id of it.  Two lanes differ in at least two of them, so that none meets another by a byte that was
broken.  The same seed draws the same steps in every lane.  What is drawn beyond that stands in `wide`.
"""

from __future__ import annotations

from random import Random
from typing import Final

from player import packets
from player.manner import NARROW, Manner, prefix

LANE: Final = "000"
"""That of a sequence which is played alone."""
AS_WHOM: Final = {"x": " user=alice", "y": " user=bob", "z": " port=port2"}
"""With rules each client id is always the same client's: what Mosquitto does where that changes is not to be done."""
ACTORS: Final = ("A", "B", "C")
IDS: Final = {"x": 0, "y": 1, "z": 2}
"""Client ids; each subscribes with one QoS, since 2.0 chooses another one than 2.1 where filters overlap."""
TOPICS: Final = ("a", "a/b", "a/b/c", "/", "/a", "a/", "b", "b//c", "ä", "a+", "", "a/+", "#", "a#b")
PLAIN: Final = TOPICS[:9]
"""Those that can be published to."""
FILTERS: Final = ("#", "+", "a", "a/b", "a/#", "+/b", "+/#", "/+", "a/+/c", "b//c", "+/+/+", "a/", "ä")
BAD_FILTERS: Final = ("", "a#", "#/a", "a/+b", "+a", "a/#/b")
PAYLOADS: Final = ("", "1", "2", "x", "hex:00ff", "zeros:300", "zeros:70000")
STEPS: Final = 40
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


class Wanderer:
    """Draws steps, and keeps just enough in mind to draw some that fit."""

    topics: tuple[str, ...] = TOPICS
    plain: tuple[str, ...] = PLAIN
    filters: tuple[str, ...] = FILTERS

    def __init__(self, random: Random, manner: Manner = NARROW, lane: str = LANE) -> None:
        self._random = random
        self._with_rules = manner.with_rules
        self._lane = lane
        self._id = dict.fromkeys(ACTORS, "x")
        self._version = dict.fromkeys(ACTORS, 4)
        self._here = dict.fromkeys(ACTORS, False)
        self._lasting = dict.fromkeys(ACTORS, False)
        """Whose session outlives the connection."""
        self._resuming = dict.fromkeys(ACTORS, False)
        """Who may have found a session, with messages that it holds, even if that lasts no longer."""
        self._once = dict.fromkeys(ACTORS, False)
        """Who says CONNECT only once: the session lasts, or there is a will."""
        self._willing = dict.fromkeys(ACTORS, False)
        """Who has a will."""
        self._of_5 = {name: random.choice(LASTING) for name in IDS if random.random() < 0.3}
        """Ids whose clients all speak 5.0: subscriptions have an identifier, and options that stay (in 2.0 they do)."""

    def _within(self, actor: str, topic: str) -> str:
        """A topic or a filter of the lane.  Whoever is below a mount point is in it already; nothing stays nothing."""
        return topic if not topic or self._is_mounted(actor) else prefix(self._lane) + topic

    def steps(self) -> list[str]:
        return [self._step(self._random.choice(ACTORS)) for _ in range(STEPS)]

    def _step(self, actor: str) -> str:
        random = self._random
        if not self._here[actor] or random.random() < 0.08:
            if random.random() < 0.12:
                taken = {self._id[other] for other in ACTORS if self._loses_will(other)}
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
                self.filters if random.random() < 0.93 else BAD_FILTERS, k=random.randint(1, 3)
            )
            return self._subscribe(actor, list(dict.fromkeys(filters)))
        if kind == "unsubscribe" and not self._is_mounted(actor):
            return f"{actor}: unsubscribe '{self._within(actor, random.choice(self.filters))}'"
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
        return (
            f"{actor}: subscribe "
            + " ".join(f"'{self._within(actor, one)}' {options}" for one in filters)
            + more
        )

    def _acknowledged(self, actor: str) -> str:
        """Whose id: which one a message has depends on copies, and on the order of what is retained."""
        random = self._random
        if self._version[actor] == 5:
            return random.choice(("1", "65535"))  # its first is the first
        if random.random() < 0.1:
            return "65535"
        topic, within = random.choice(self.plain), prefix(self._lane)
        return f"'@{topic},{within}m/{topic}'" if self._is_mounted(actor) else f"'@{within}{topic}'"

    def _loses_will(self, actor: str) -> bool:
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
            if is_mine or (self._id[other] == name and self._loses_will(other)):
                self._here[other] = False
                return f"{other}: drop"
        version = 5 if name in self._of_5 else random.choice((3, 4, 4, 5, 5))
        clean = random.randint(0, 1)
        self._id[actor], self._version[actor], self._here[actor] = name, version, True
        self._lasting[actor], self._resuming[actor] = version != 5 and not clean, not clean
        words = [f"{actor}: connect id={self._lane}{name} clean={clean}"]
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
            topic = self._within(actor, random.choice(self.plain))
            words.append(f"will.topic='{topic}' will.payload=gone will.qos={random.randint(0, 2)}")
            words.append(f"will.retain={random.randint(0, 1)}")
            if version == 5 and random.random() < 0.3:
                words.append("will.content-type=c will.user-property=a:1,b:2")
        return " ".join(words)

    def _publish(self, actor: str) -> str:
        random = self._random
        topic = random.choice(self.plain if random.random() < 0.95 else self.topics)
        qos, retain = random.randint(0, 2), int(random.random() < 0.3)
        more = " id=7" if qos and random.random() < 0.15 else ""
        if (more or self._lasting[actor] or self._resuming[actor]) and not self._may_publish(actor, topic):
            qos = min(qos, 1)  # as QoS 2 it would be the end of one that is held under its id
        dup = f" dup={random.randint(0, 1)}" if qos else ""
        if self._version[actor] == 5 and random.random() < 0.4:
            more += random.choice(PROPERTIES)
            if "alias" in more and random.random() < 0.5:
                topic = ""
        topic = self._within(actor, topic)
        return f"{actor}: publish '{topic}' {random.choice(PAYLOADS)!r} qos={qos} retain={retain}{dup}{more}"

    def _packet(self, actor: str, taken: set[str] | None = None) -> bytes:
        """One that is right by itself; with client ids that are taken it is a CONNECT."""
        random = self._random
        if taken is not None or (not self._once[actor] and random.random() < 0.1):
            ids = [
                (name and self._lane + name).encode()
                for name in ("x", "y", "q", "")
                if name not in (taken or ())
            ]
            return packets.connect(client_id=random.choice(ids), clean=random.random() < 0.6)
        topic = random.choice(self.topics)
        kind = random.randrange(5)
        if kind == 0:
            qos = random.randrange(3 if self._may_publish(actor, topic) else 2)
            name = self._within(actor, topic).encode()
            return packets.publish(name, b"raw", qos, False, False, random.choice((0, 1, 7)))
        if kind == 1:
            qos = IDS[self._id[actor]]
            # 2.0 subscribes to what stands before the broken part of a packet; here it is broken as a whole.
            many = 1 if self._lasting[actor] else 2
            return packets.subscribe(
                random.choice((0, 1)),
                [(self._within(actor, random.choice(self.filters)).encode(), qos)] * many,
            )
        if kind == 2 and not self._is_mounted(actor):
            gone = self._within(actor, random.choice((*self.filters, *BAD_FILTERS)))
            return packets.unsubscribe(1, [gone.encode()])
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
