"""A NATS server with JetStream in memory, as far as a cluster asks one, on Trio's clock, which may be a mock.

What a real server does, the tests with `support.nats` show; this is for what only happens now and then: answers that
are lost, writes that another node makes meanwhile, records that end.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

import trio

from broker.cluster.link import NatsLink
from broker.cluster.status import ClusterStatus
from broker.config.cluster import ClusterConfig
from broker.core.engine import Engine
from broker.links.pump import Pump
from protocol.nats import headers, jetstream, wire

LOST: Final = "lost"
"""A request is done, and its answer does not come."""
SILENT: Final = "silent"
"""Nothing is done, and nothing said."""
HELD: Final = "held"
"""It is done later: when the server is to `release` it."""


def refused(code: int, err_code: int = 0) -> dict[str, Any]:
    """An answer that says no."""
    return {"error": {"code": code, "err_code": err_code, "description": "no"}}


class Kept:
    """A message of a stream."""

    def __init__(self, sequence: int, subject: bytes, block: bytes, payload: bytes, ends_at: float) -> None:
        self.sequence, self.subject, self.block, self.payload = sequence, subject, block, payload
        self.ends_at = ends_at
        self.at_ns = time.time_ns()

    def said(self) -> dict[str, Any]:
        """As the answer to who asks for it."""
        message: dict[str, Any] = {"subject": self.subject.decode(), "seq": self.sequence}
        whole, rest = divmod(self.at_ns, jetstream.NANOSECONDS)
        message["time"] = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
        message["hdrs"] = base64.b64encode(self.block).decode()
        return {"message": {**message, "data": base64.b64encode(self.payload).decode()}}


class Stream:
    """One stream: `kept` in its order."""

    def __init__(self, config: dict[str, Any], created: str) -> None:
        self.config = config
        self.created = created
        self.last = 0
        self.kept: list[Kept] = []
        self.hidden: list[Kept] = []
        """The end, which who leads has yet to catch up with; until then it takes nothing."""
        self.ids: dict[bytes, int] = {}
        """Of messages that had one, with their sequences."""

    def takes(self, subject: bytes) -> bool:
        return any(_matches(one.encode(), subject) for one in self.config.get("subjects", []))

    def put(self, subject: bytes, block: bytes, payload: bytes, ttl_s: float = 0.0) -> Kept:
        self.last += 1
        if self.config.get("max_msgs_per_subject") == 1:
            self.kept = [one for one in self.kept if one.subject != subject]
        ends_at = trio.current_time() + ttl_s if ttl_s else float("inf")
        self.kept.append(Kept(self.last, subject, block, payload, ends_at))
        return self.kept[-1]

    def fall_behind(self, count: int) -> None:
        """Who leads does not have the last ones."""
        self.hidden = self.kept[len(self.kept) - count :]
        del self.kept[len(self.kept) - count :]
        self.last -= count

    def catch_up(self) -> None:
        """It has them now."""
        self.kept += self.hidden
        self.last += len(self.hidden)
        self.hidden = []

    def lose(self, count: int) -> None:
        """The last ones are gone for good, as after a power failure or where a disk was restored."""
        self.fall_behind(count)
        self.hidden = []

    def expire(self) -> None:
        """What has lived its time leaves a mark."""
        for one in [one for one in self.kept if one.ends_at <= trio.current_time()]:
            self.put(one.subject, headers.encode({jetstream.MARKER_REASON: b"MaxAge"}), b"")

    def of(self, subject: bytes) -> list[Kept]:
        self.expire()
        return [one for one in self.kept if _matches(subject, one.subject)]

    def state(self) -> dict[str, Any]:
        first = self.kept[0].sequence if self.kept else self.last + 1
        return {
            "first_seq": first,
            "last_seq": self.last,
            "messages": len(self.kept),
            "bytes": 100 * self.last,
        }


class MemoryNats:
    """The server.

    Attributes:
        faults: (part of a subject, what happens instead); the first that fits is used, once.
        asked: subjects of all requests and messages that came, in their order.
        said: messages that were published, with their subjects; `requests` have their reply subjects, too.
    """

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], dict[str, Any]] = {}
        self.faults: list[tuple[bytes, object]] = []
        self.asked: list[bytes] = []
        self.said: list[tuple[bytes, bytes]] = []
        self.requests: list[tuple[bytes, bytes, bytes]] = []
        self.is_full = False
        self.leader = ""
        """Who says that it leads the streams."""
        self.sources: dict[str, list[dict[str, Any]]] = {}
        """By stream, how far it has copied which, as its `info` says it."""
        self.ahead_s = 0.0
        """Of the clock of the nodes' machine."""
        self._sockets: list[_Socket] = []
        self._made = 0
        self._held: list[tuple[bytes, bytes, bytes, bytes]] = []
        self._refused: set[bytes] = set()
        """Batches."""

    # --- connections ---------------------------------------------------------------------------------------

    def connected(self, engine: Engine | None = None, status: ClusterStatus | None = None) -> NatsLink:
        """A node's link, which is open."""
        config = ClusterConfig(nats=("nats://memory:4222",))
        link = NatsLink(config, engine or Engine(), cast("Pump", None), status or ClusterStatus())
        self.admit(link)
        return link

    def admit(self, link: NatsLink) -> None:
        """Open a connection, as `NatsLink.run` would."""
        socket = _Socket(self, link)
        self._sockets.append(socket)
        link._socket = cast("Any", socket)
        link._status.problem = ""
        socket.send(link._subscriptions.all())
        link._opened.set()
        with link._engine.turn:
            for listener in link.on_open:
                listener()

    def drop(self, link: NatsLink) -> None:
        """End a connection."""
        self._sockets = [one for one in self._sockets if one.link is not link]
        link._lost()

    # --- what comes ----------------------------------------------------------------------------------------

    def stream(self, name: str, subjects: tuple[str, ...] = (), **config: Any) -> Stream:
        """Make a stream."""
        self._made += 1
        made = {"name": name, "subjects": list(subjects), **config}
        self.streams[name] = Stream(made, f"2026-01-01T00:00:{self._made:02}Z")
        return self.streams[name]

    def published(self, subject: bytes, reply: bytes, block: bytes, payload: bytes) -> None:
        self.asked.append(subject)
        self.said.append((subject, payload))
        if reply:
            self.requests.append((subject, payload, reply))
        fault = next((one for one in self.faults if one[0] in subject), None)
        if fault is not None:
            self.faults.remove(fault)
            if fault[1] == SILENT:
                return
            if fault[1] == HELD:
                self._held.append((subject, reply, block, payload))
                return
            if isinstance(fault[1], dict):
                self._answer(reply, fault[1])
                return
        answer = self._take(subject, reply, block, payload)
        if answer is not None and (fault is None or fault[1] != LOST):
            self._answer(reply, answer)

    def release(self) -> None:
        """What was held comes now."""
        held, self._held = self._held, []
        for one in held:
            self.published(*one)

    def _answer(self, reply: bytes, value: Mapping[str, Any]) -> None:
        if reply:
            self.deliver(reply, jetstream.body(value))

    def deliver(self, subject: bytes, payload: bytes, reply: bytes = b"", block: bytes = b"") -> int:
        """To everybody who has subscribed; how many that are."""
        found = [(one, sid) for one in self._sockets for sid in one.wanting(subject)]
        for socket, sid in found:
            socket.hand_over(wire.Message(subject, sid, reply, block, payload))
        return len(found)

    def _take(self, subject: bytes, reply: bytes, block: bytes, payload: bytes) -> dict[str, Any] | None:
        if subject.startswith(jetstream.API):
            words = subject[len(jetstream.API) :].decode().split(".")
            body = json.loads(payload or b"{}")
            return self._api(".".join(words[:-1]), words[-1], words, body, reply)
        for stream in self.streams.values():
            if stream.takes(subject):
                return self._store(stream, subject, block, payload)
        if not self.deliver(subject, payload, reply, block) and reply:
            self.deliver(reply, b"", b"", b"NATS/1.0 503\r\n\r\n")
        return None

    def _store(self, stream: Stream, subject: bytes, block: bytes, payload: bytes) -> dict[str, Any] | None:
        if stream.hidden:
            return None
        said = headers.decode(block)
        expected = said.number(jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE)
        found = stream.of(said.get(jetstream.EXPECTED_LAST_SUBJECT) or subject)
        batch = said.get(jetstream.BATCH_ID)
        is_wrong = expected is not None and expected != (found[-1].sequence if found else 0)
        if is_wrong or batch in self._refused:
            if batch is not None:
                self._refused.add(batch)
            return refused(400, jetstream.WRONG_LAST_SEQUENCE)
        message_id = said.get(jetstream.MSG_ID)
        if message_id is not None and message_id in stream.ids:
            return {"stream": stream.config["name"], "seq": stream.ids[message_id], "duplicate": True}
        ttl = said.get(jetstream.TTL) or b"0s"
        kept = stream.put(subject, block, payload, int(ttl[:-1]))
        if message_id is not None:
            stream.ids[message_id] = kept.sequence
        self._push(stream, kept)
        return {"stream": stream.config["name"], "seq": kept.sequence}

    # --- its API -------------------------------------------------------------------------------------------

    def _api(
        self, what: str, name: str, words: list[str], body: dict[str, Any], reply: bytes
    ) -> dict[str, Any] | None:
        if what.startswith("CONSUMER."):
            return self._consumer(what.split(".")[1], words, body, reply)
        if what == "STREAM.CREATE":
            if name in self.streams:
                return refused(400, jetstream.STREAM_NAME_IN_USE)
            made = self.stream(name)
            made.config.update(body)
            made.last = max(0, body.get("first_seq", 0) - 1)
            return {}
        stream = self.streams.get(name)
        if stream is None:
            return refused(404, jetstream.STREAM_NOT_FOUND)
        if what == "STREAM.UPDATE":
            stream.config.update(body)
            return {}
        if what == "STREAM.INFO":
            state = stream.state()
            if "subjects_filter" in body:
                state["subjects"] = {
                    one.subject.decode(): 1 for one in stream.of(body["subjects_filter"].encode())
                }
            now = datetime.fromtimestamp(time.time() + self.ahead_s, UTC).isoformat()
            cluster = {"cluster": {"leader": self.leader}} if self.leader else {}
            copied = {"sources": self.sources[name]} if name in self.sources else {}
            known = {"state": state, "created": stream.created, "ts": now}
            return {"config": stream.config, **known, **cluster, **copied}
        if what == "STREAM.MSG.GET":
            return self._message(stream, body)
        assert what == "DIRECT.GET", what
        for one in [one for one in stream.kept if one.sequence >= body["seq"]][: body["batch"]]:
            said = {b"Nats-Sequence": b"%d" % one.sequence, b"Nats-Subject": one.subject}
            block = headers.encode({**headers.decode(one.block).values, **said})
            self.deliver(reply, one.payload, b"", block)
        self.deliver(reply, b"", b"", b"NATS/1.0 204 EOB\r\n\r\n")
        return None

    def _message(self, stream: Stream, body: dict[str, Any]) -> dict[str, Any]:
        if len(body) == 1 and "seq" in body:
            found = [one for one in stream.kept if one.sequence == body["seq"]]
        else:
            subject = body.get("last_by_subj") or body["next_by_subj"]
            found = [one for one in stream.of(subject.encode()) if one.sequence >= body.get("seq", 0)]
        if not found:
            return refused(404, jetstream.NO_MESSAGE)
        return (found[-1] if "last_by_subj" in body else found[0]).said()

    def _consumer(
        self, what: str, words: list[str], body: dict[str, Any], reply: bytes
    ) -> dict[str, Any] | None:
        key = (words[-2], words[-1])
        if words[-2] not in self.streams:
            return refused(404, jetstream.STREAM_NOT_FOUND)
        if what == "CREATE":
            config = self.consumers[key] = {**body["config"], "sent": 0}
            found = [
                one for one in self.streams[key[0]].kept if one.sequence >= config.get("opt_start_seq", 0)
            ]
            if "deliver_subject" in config:
                found = [one for one in found if _is_wanted(config, one.subject)]
                for number, one in enumerate(found):
                    self._send(key, one, len(found) - number - 1)
            return {"config": body["config"], "num_pending": len(found)}
        if key not in self.consumers:
            if what == "MSG":
                self.deliver(reply, b"", b"", b"NATS/1.0 503\r\n\r\n")
                return None
            return refused(404, jetstream.CONSUMER_NOT_FOUND)
        if what == "DELETE":
            del self.consumers[key]
            return {}
        if what == "INFO":
            config = {name: one for name, one in self.consumers[key].items() if name != "sent"}
            delivered = {
                "consumer_seq": self.consumers[key].get("sent", 0),
                "stream_seq": self.streams[key[0]].last,
            }
            return {"config": config, "delivered": delivered}
        return None  # a pull; what it gets is the test's to `deliver`

    def _push(self, stream: Stream, kept: Kept) -> None:
        for key, config in self.consumers.items():
            is_pushed = key[0] == stream.config["name"] and "deliver_subject" in config
            if is_pushed and _is_wanted(config, kept.subject):
                self._send(key, kept, 0)

    def catch_up(self, name: str) -> None:
        """Who leads has what it was behind with, and so have its consumers."""
        stream = self.streams[name]
        late = stream.hidden
        stream.catch_up()
        for one in late:
            self._push(stream, one)

    async def beat(self) -> None:
        """Say once a second that consumers live, until cancelled."""
        while True:
            await trio.sleep(1.0)
            for (name, _), config in self.consumers.items():
                said = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\n" % config["sent"]
                said += b"Nats-Last-Stream: %d\r\n\r\n" % (
                    self.streams[name].last if name in self.streams else 0
                )
                if "idle_heartbeat" in config:
                    self.deliver(config["deliver_subject"].encode(), b"", b"", said)

    def _send(self, key: tuple[str, str], kept: Kept, pending: int) -> None:
        config = self.consumers[key]
        config["sent"] += 1
        socket_subject = config["deliver_subject"].encode()
        reply = acknowledged_at(*key, kept.sequence, config["sent"], pending, kept.at_ns)
        for socket in self._sockets:
            for sid in socket.wanting(socket_subject):
                socket.hand_over(wire.Message(kept.subject, sid, reply, kept.block, kept.payload))


class _Socket:
    """As `NatsSocket`, with a `MemoryNats` behind it."""

    def __init__(self, server: MemoryNats, link: NatsLink) -> None:
        self.server = server
        self.link = link
        self.connection = SimpleNamespace(payload_max=1024 * 1024, error="", errors=0)
        self.fd = -1
        self.heard_at = 0.0
        self.ended: list[str] = []
        self._wanted: dict[int, bytes] = {}
        self._soon = trio.lowlevel.current_trio_token().run_sync_soon

    def send(self, data: bytes) -> bool:
        if self.server.is_full:
            return False
        self._soon(self._read, data)
        return True

    def flush(self) -> None:
        pass

    def end(self, why: str) -> None:
        self.ended.append(why)

    def wanting(self, subject: bytes) -> list[int]:
        return [sid for sid, wanted in self._wanted.items() if _matches(wanted, subject)]

    def hand_over(self, message: wire.Message) -> None:
        self._soon(self._hand_over, message)

    def _hand_over(self, message: wire.Message) -> None:
        if self.link._socket is cast("Any", self):
            with self.link._engine.turn:
                self.link._subscriptions.take(message)

    def _read(self, data: bytes) -> None:
        while data:
            line, _, data = data.partition(b"\r\n")
            verb, *words = line.split(b" ")
            if verb == b"SUB":
                self._wanted[int(words[-1])] = words[0]
            elif verb == b"UNSUB":
                self._wanted.pop(int(words[0]), None)
            elif verb in (b"PUB", b"HPUB"):
                sizes = 2 if verb == b"HPUB" else 1
                head = int(words[-2]) if sizes == 2 else 0
                total = int(words[-1])
                reply = words[1] if len(words) > 1 + sizes else b""
                self.server.published(words[0], reply, data[:head], data[head:total])
                data = data[total + 2 :]


def acknowledged_at(
    stream: str,
    consumer: str,
    sequence: int,
    number: int,
    pending: int = 0,
    stored_ns: int = 1_700_000_000 * jetstream.NANOSECONDS,
) -> bytes:
    """The reply subject of a message that a consumer sends."""
    return f"$JS.ACK.{stream}.{consumer}.1.{sequence}.{number}.{stored_ns}.{pending}".encode()


def _is_wanted(config: Mapping[str, Any], subject: bytes) -> bool:
    filters = config.get("filter_subjects")
    return not filters or any(_matches(one.encode(), subject) for one in filters)


def _matches(wanted: bytes, subject: bytes) -> bool:
    levels, found = wanted.decode().split("."), subject.decode().split(".")
    if levels[-1] == ">":
        levels = levels[:-1]
        if len(found) <= len(levels):
            return False
        found = found[: len(levels)]
    return len(levels) == len(found) and all(
        one == "*" or one == other for one, other in zip(levels, found, strict=True)
    )
