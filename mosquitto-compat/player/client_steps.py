"""What the verbs of clients do."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import trio

from player import packets, packets5
from player.client import PATIENCE_S, SILENT_S, Client
from player.scenario import ScenarioError, Step

if TYPE_CHECKING:
    from player.play import Play


class Sender(Protocol):
    """What a packet depends on."""

    level: int
    next_id: int
    ids: dict[bytes, int]


AWAIT_S = 20.0
"""How long to wait for what must come."""
NOBODYS_ID = 64000
"""What no message of a scenario has."""
LISTEN_S = 5.0
"""How long to collect topics."""


def payload_of(text: str) -> bytes:
    """`hex:00ff`, `zeros:1000`, or the text itself; an underscore-free `\\u` escape gives the character."""
    if text.startswith("hex:"):
        return bytes.fromhex(text[4:])
    if text.startswith("zeros:"):
        return b"0" * int(text[6:])
    return text.encode("utf-8")


def hex_of(words: list[str]) -> bytes:
    """Hex digits, `str:text` for a string with its length, `*N` to repeat the byte before N times."""
    data = b""
    for word in words:
        if word.startswith("str:"):
            data += packets.text(payload_of(word[4:]))
        elif word.startswith("*"):
            data += data[-1:] * (int(word[1:]) - 1)
        else:
            data += bytes.fromhex(word)
    return data


def connect_packet(name: str, options: Mapping[str, str]) -> bytes:
    """CONNECT from the options of a `connect` step."""
    will = None
    if "will.topic" in options:
        will = (
            payload_of(options["will.topic"]),
            payload_of(options.get("will.payload", "")),
            int(options.get("will.qos", "0")),
            options.get("will.retain") == "1",
        )
    if options.get("version") == "5":
        client_id, keep_alive_s = payload_of(options.get("id", name.lower())), int(options.get("keep", "60"))
        return packets5.connect(client_id, options.get("clean", "1") == "1", keep_alive_s, options, will)
    return packets.connect(
        client_id=payload_of(options.get("id", name.lower())),
        name=payload_of(options.get("name", "MQTT")),
        level=int(options.get("level", "4"), 0),
        clean=options.get("clean", "1") == "1",
        keep_alive_s=int(options.get("keep", "60")),
        will=will,
        user=payload_of(options["user"]) if "user" in options else None,
        password=payload_of(options["password"]) if "password" in options else None,
        flags=int(options["flags"], 0) if "flags" in options else None,
        extra=bytes.fromhex(options.get("extra", "")),
    )


async def client_step(play: Play, client: Client, step: Step) -> None:
    """Play one step of a client."""
    verb, words = step.verb, [play.fill(word) for word in step.arguments]
    options = {name: play.fill(value) for name, value in step.options.items()}
    if "manual" in words:
        words.remove("manual")
        options["manual"] = "1"
    if verb in ("open", "connect"):
        await _connect(play, client, verb, options)
    elif verb in ("case", "first"):
        await _case(play, client, verb, words)
    elif verb in ("subscribe", "unsubscribe", "publish", "puback", "pubrec", "pubrel", "pubcomp", "flood"):
        await client.send(step_packet(client, verb, words, options))
    elif verb == "raw":
        await _raw(client, hex_of(words), step.fenced)
    elif verb == "ping":
        await client.ping(noted=True)
    elif verb == "disconnect":
        await client.send(packets5.disconnect(options) if client.level == 5 else packets.DISCONNECT)
        client.connected = False
        await client.until(lambda: client.closed, PATIENCE_S)
    elif verb == "drop":
        await client.drop()
    elif verb in ("manual", "auto"):
        client.automatic = verb == "auto"
    elif verb in ("pause", "resume"):
        client.reading = trio.Event()
        if verb == "resume":
            client.reading.set()
    elif verb == "await":
        await _await(play, client, words, options)
    elif verb in ("names", "value"):
        await _observe(client, verb, words, options)
    else:
        raise ScenarioError(f"{play.scenario.path.name}:{step.line}: unknown step {step.source!r}")


async def _connect(play: Play, client: Client, verb: str, options: dict[str, str]) -> None:
    if client.closed or options.get("again") != "1":
        if not client.closed:
            await client.drop()
        if not await client.open(play.nursery, play.port(options.get("port", "port")), options):
            return
    if verb == "open":
        return
    before, client.level = client.packets, int(options.get("version", "4"))
    await client.send(connect_packet(client.name, options))
    await client.until(lambda: client.closed or client.packets > before, PATIENCE_S)
    if client.packets == before and not client.closed:
        client.note("silent")
    elif not client.connected:
        await client.until(lambda: client.closed, PATIENCE_S)


async def _raw(client: Client, data: bytes, fenced: bool) -> None:
    connected, before = client.connected, client.activity
    await client.send(data)
    if not fenced:
        return
    if connected:
        await client.settle()
        return
    await client.until(lambda: client.closed or client.activity > before, SILENT_S)
    if client.activity == before:
        client.note("silent")
    elif not client.connected:
        await client.until(lambda: client.closed, PATIENCE_S)


async def _case(play: Play, client: Client, verb: str, words: list[str]) -> None:
    """A connection for one packet: `first` sends it at once, `case` after a CONNECT.  `# …` is a remark."""
    words = words[: words.index("#")] if "#" in words else words
    await client.drop()
    client.level = 4
    # Whether an acknowledgement would go out before the end of the connection is chance: there is none.
    if not await client.open(play.nursery, play.port(), {"manual": "1"}):
        return
    if verb == "case":
        await client.send(packets.connect(client_id=client.name.lower().encode()))
        await client.until(lambda: client.connected, PATIENCE_S)
        client.lines.clear()
    await _raw(client, hex_of(words), True)
    if not client.closed and not client.mute and client.lines[-1:] != ["silent"]:
        client.note("open")
    await client.drop()
    client.mute = False


def step_packet(client: Sender, verb: str, words: list[str], options: Mapping[str, str]) -> bytes:
    """What a step of one packet sends."""
    if verb in ("puback", "pubrec", "pubrel", "pubcomp"):
        kind = {"puback": 4, "pubrec": 5, "pubrel": 6, "pubcomp": 7}[verb]
        return packets.short(kind, _acknowledged(client, words[0]))
    if verb == "flood":
        return b"".join(_publish(client, [words[0], f"{n}"], options) for n in range(int(words[1])))
    if verb == "publish":
        return _publish(client, words, options)
    if verb == "unsubscribe":
        packet_id, filters = _id(client, options), [payload_of(word) for word in words]
        if client.level == 5:
            return packets5.unsubscribe(packet_id, filters, options)
        return packets.unsubscribe(packet_id, filters)
    pairs = [(payload_of(words[at]), int(words[at + 1])) for at in range(0, len(words), 2)]
    return _subscribe(client, pairs, options)


def _acknowledged(client: Sender, word: str) -> int:
    """A packet id, or `@TOPIC`: that of the last message of it; of several topics, with commas, the first that came."""
    if not word.startswith("@"):
        return int(word)
    topics = [topic.encode() for topic in word[1:].split(",")]
    return next((client.ids[topic] for topic in topics if topic in client.ids), NOBODYS_ID)


def _subscribe(client: Sender, pairs: list[tuple[bytes, int]], options: Mapping[str, str]) -> bytes:
    packet_id = _id(client, options)
    if client.level == 5:
        return packets5.subscribe(packet_id, pairs, options)
    return packets.subscribe(packet_id, pairs)


def _publish(client: Sender, words: list[str], options: Mapping[str, str]) -> bytes:
    qos = int(options.get("qos", "0"))
    if client.level == 5:
        flags = (8 if options.get("dup") == "1" else 0) | (1 if options.get("retain") == "1" else 0)
        payload = payload_of(words[1]) if len(words) > 1 else b""
        packet_id = _id(client, options) if qos else 0
        return packets5.publish(payload_of(words[0]), payload, qos, flags, packet_id, options)
    return packets.publish(
        payload_of(words[0]),
        payload_of(words[1]) if len(words) > 1 else b"",
        qos,
        options.get("retain") == "1",
        options.get("dup") == "1",
        _id(client, options) if qos else 0,
    )


def _id(client: Sender, options: Mapping[str, str]) -> int:
    if "id" in options:
        return int(options["id"])
    client.next_id += 1
    return client.next_id - 1


async def _await(play: Play, client: Client, words: list[str], options: Mapping[str, str]) -> None:
    """`await close`, or `await N`: so many lines since the last step.

    `least` counts from when the client, or for lines whichever of them all, was heard last: a busy machine may take its
    time until this step begins.
    """
    within_s = float(options.get("within", AWAIT_S))
    silent = [client] if words[0] == "close" else play.clients.values()
    began = min(one.sent_at for one in silent)
    if words[0] == "close":
        done = await client.until(lambda: client.closed, within_s)
    else:
        done = await client.until(lambda: len(client.lines) >= int(words[0]), within_s)
    if not done:
        client.note(f"waited {within_s:g} s in vain")
    elif "least" in options and time.monotonic() - began < float(options["least"]):
        client.note("too early")


async def _observe(client: Client, verb: str, words: list[str], options: Mapping[str, str]) -> None:
    """`names FILTER` lists the topics of what arrives; `value TOPIC want=V` waits for a value."""
    within_s = float(options.get("within", LISTEN_S if verb == "names" else AWAIT_S))
    if client.collected is None:
        client.collected = {}
    collected = client.collected
    if verb == "names":
        await client.send(_subscribe(client, [(payload_of(words[0]), 0)], {}))
        await client.until(lambda: False, within_s)
        lines = sorted(collected)
        client.lines.clear()
    else:
        if words[0] not in collected:
            await client.send(_subscribe(client, [(payload_of(words[0]), 0)], {}))
        want = options.get("want", "")
        await client.until(lambda: re.fullmatch(want, collected.get(words[0], "")) is not None, within_s)
        value = collected.get(words[0], "nothing")
        lines = [f"{words[0]} = {options.get('as', value) if re.fullmatch(want, value) else value}"]
        client.lines.clear()
    for line in lines:
        client.note(line)
