"""What transcripts of random sequences are made even by before they are compared: what is known, and what is chance."""

from __future__ import annotations

import re
from collections import Counter, deque
from itertools import groupby, zip_longest
from typing import Final

from player import compare, packets

KNOWN: Final = (
    re.compile(r"[+] . < DISCONNECT code=8[be]"),
    re.compile(r"[-] . < CONNACK present=0 code=[12]"),
    re.compile(r"[+] . < CONNACK 20 03 00 84 00"),
    re.compile(r"[+] . < CONNACK present=0 code=8[12]"),
    re.compile(r"[-+] . < DISCONNECT code=(?:8[12]|94|9[ab])"),
    re.compile(r"- . < PUBREL id=…(?: code=00)?"),
)
"""What the ledger explains and no choice of steps avoids: 2.0 says nothing to a client of 5.0 that is taken over, or
when it stops, or whose CONNECT is malformed, and
answers levels that it does not know in the words of 3.1.1, and an empty client id before it has read the rest.  Which
of malformed and protocol error a client of 5.0 is told differs by packet:
tests/protocol/mqtt/v5/test_cases5_against_mosquitto.py has the list.  Each of several copies of QoS 2 has its
PUBREL."""
ASKING: Final = re.compile(r"-- (\w+): (?:subscribe|raw) ")
PUBLISHED: Final = re.compile(r" < PUBLISH ")
LIVE: Final = re.compile(r" < PUBLISH (?!.* retain qos=)")
RETAINED: Final = re.compile(r"(.*) < PUBLISH .* retain qos=")
MANY_TIMES: Final = re.compile(r"( subscription-identifier=7)\1+")
NOBODY: Final = re.compile(r"( < PUB(?:ACK|REC) .*)code=10")
COMING: Final = re.compile(r"-- (\w+): (?:connect|first) ")
RESUMING: Final = re.compile(r"-- \w+: (?:connect|first|raw 10) ")
SEVERAL: Final = re.compile(r"-- (\w+): (?:raw|end) ([0-9a-f ]+)")
MOUNTED: Final = re.compile(r" +(\w+) < PUBLISH '((?:\w{3}/)?m/)")
LASTING: Final = re.compile(r"(message-expiry-interval=)\d{5,}")
"""What is left of a long time: how long things took is chance."""
SENT: Final = re.compile(r"( < (?:PUBLISH .* |PUBREL |PUBCOMP ))id=\d+")


def what_differs(mosquitto: list[str], rowcast: list[str]) -> list[str]:
    """The lines that differ between two transcripts of one sequence, without what is known and what is chance."""
    if mosquitto == rowcast:
        return []
    theirs = _by_step(_evened(without_mount_point(without_what_a_reset_loses(mosquitto))))
    ours = _by_step(_evened(without_what_a_reset_loses(rowcast)))
    lines = compare.differing(in_as_many_copies(theirs, ours), ours)
    return [line for line in lines if not any(known.fullmatch(line) for known in KNOWN)]


def without_what_a_reset_loses(transcript: list[str]) -> list[str]:
    """Who sends several packets at once and is closed for one of them is reset, and loses what was on its way."""
    found: list[str] = []
    for step in _by_step(transcript):
        if (several := SEVERAL.match(step[0])) and len(packets.split(bytes.fromhex(several[2]))[0]) > 1:
            mine = f"{several[1]} < "
            if any(line.lstrip() == mine + "closed" for line in step):
                step = [
                    line for line in step if not line.lstrip().startswith(mine) or line.endswith("closed")
                ]
        found += step
    return found[1:]


def _evened(transcript: list[str]) -> list[str]:
    return evened_out(in_one_order(with_releases_last(without_ids(transcript))))


def _by_step(transcript: list[str]) -> list[list[str]]:
    """Each step with its lines; first what came before any."""
    steps: list[list[str]] = [[""]]
    for line in transcript:
        if line.startswith("-- "):
            steps.append([line])
        else:
            steps[-1].append(line)
    return steps


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
    nothing: list[str] = []
    copied: set[str] = set()
    return [
        _without_copies(step, our_step, copied)
        for step, our_step in zip_longest(theirs, ours[: len(theirs)], fillvalue=nothing)
    ]


def _without_copies(step: list[str], ours: list[str], copied: set[str]) -> list[str]:
    """A copy comes directly behind its like; where a session is resumed one of the two may have been acknowledged.

    Args:
        copied: messages of which copies were left out, so far; more are added.
    """
    asking, is_resumed = ASKING.match(step[0]), RESUMING.match(step[0]) is not None
    coming, to_come = Counter(step), deque(ours)
    kept: list[str] = []
    last = ""
    for line in step:
        while to_come and not coming[to_come[0]]:
            to_come.popleft()  # from Rowcast alone
        coming[line] -= 1
        has_asked = asking and line.lstrip().startswith(f"{asking[1]} <")
        is_live = (LIVE if has_asked else PUBLISHED).search(line)
        is_again = is_resumed and ((line in ours and line in kept) or _message(line) in copied)
        is_copy = is_live and (is_again or line == last)
        last = line
        if to_come and to_come[0] == line:
            to_come.popleft()
        elif is_copy:
            copied.add(_message(line))
            continue
        kept.append(line)
    return kept


def _message(line: str) -> str:
    """What came, whoever got it and however often it was sent."""
    return line.partition(" < ")[2].replace(" dup ", " ")


def without_ids(transcript: list[str]) -> list[str]:
    """Which packet ids a broker gives depends on its copies; the scenarios compare them.  And 0x10 is 0.

    2.0 counts those who may not read a message to those who got it.  Nor does it matter how often one copy has the one
    identifier of several subscriptions.
    """
    return [
        line
        if line.startswith("-- ")
        else LASTING.sub(r"\1…", MANY_TIMES.sub(r"\1", SENT.sub(r"\1id=…", NOBODY.sub(r"\1code=00", line))))
        for line in transcript
    ]


def in_one_order(transcript: list[str]) -> list[str]:
    """The retained messages that a client gets one behind the other, sorted: no standard says in which order."""

    def whose(line: str) -> str | None:
        got = None if line.startswith("-- ") else RETAINED.match(line)
        return got and got[1]

    found: list[str] = []
    for name, group in groupby(transcript, whose):
        lines = list(group)
        found += lines if name is None else sorted(lines)
    return found


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
            line = line.replace(f"PUBLISH '{got[2]}", "PUBLISH '", 1)
        kept.append(line)
    return kept
