"""`since` in the exchange's and CantonDEX's dialects, against a model, through connections that break anywhere.

Each run: rings that forget, or none for some channels, a client behind a kernel that takes what it likes, cuts at any
byte, unsubscribing, gaps, a server that is stopped or killed and started anew.  At the end each channel has every
message in order and each once since it was told that something is missing; what is retained makes up for that.
"""

from __future__ import annotations

import json
import random
from typing import Any, ClassVar

import pytest
from support.websockets import FrameParser, masked

from broker.config.dialects.canton import Canton
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked
from broker.config.tokens import JwtConfig
from broker.core.engine import Engine
from broker.core.history import History, Ring
from broker.core.outbox import Outbox
from broker.core.parts import Part
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.gateway.channels import topic_of
from broker.gateway.gateway import Gateway
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.readers import Readers
from broker.links.websocket.words import STATE_FIRST
from protocol.dialects.base import Clock, Identity, Refusal

JWT = JwtConfig("a_secret_of_at_least_32_characters")
CONFIG = GatewayConfig(exchange=Exchange(jwt=JWT), canton=Canton(jwt=JWT))


class Elsewhere:
    """Logins are answered by `Wire`."""

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        raise AssertionError


class Exchanges:
    """What a client of the exchange says and hears."""

    dialect = "exchange"
    login = '{"op":"auth","token":"1001"}'
    channels: ClassVar = {
        "@order": "1001@order",
        "BTC/USDT@trades": "BTC/USDT@trades",
        "BTC/USDT@depth": "BTC/USDT@depth",
        "BTC/USDT@ticker": "BTC/USDT@ticker",
    }
    retained = "BTC/USDT@ticker"

    def subscribe(self, wanted: dict[str, str]) -> list[str]:
        if len(set(wanted.values())) == 1:
            since = next(iter(wanted.values()))
            return [json.dumps({"op": "subscribe", "channels": list(wanted), "since": since})]
        both = [{"channel": channel, "since": since} for channel, since in wanted.items()]
        return [json.dumps({"op": "subscribe", "channels": both})]

    def unsubscribe(self, channel: str) -> str:
        return json.dumps({"op": "unsubscribe", "channel": channel})

    def message(self, channel: str, number: int) -> str:
        return json.dumps({"event": channel, "data": {"n": number, "at": "of the row"}})

    def answered(self, said: dict[str, Any]) -> str | None:
        return said.get("channel") if said.get("result") is True else None

    def heard(self, said: dict[str, Any]) -> tuple[str, int] | None:
        return (said["event"], said["data"]["n"]) if "event" in said else None


class CantonDex:
    """The same for CantonDEX."""

    dialect = "canton"
    login = '{"type":"auth","token":"1001"}'
    channels: ClassVar = {
        "orders": "orders/1001",
        "trades": "trades/1001",
        "system_health": "system_health",
        "A/B": "market_data/A/B",
    }
    retained = "system_health"

    def _request(self, channel: str) -> dict[str, Any]:
        market = {"channel": "market_data", "symbols": [channel]}
        return market if channel == "A/B" else {"channel": channel}

    def subscribe(self, wanted: dict[str, str]) -> list[str]:
        asked = [{**self._request(channel), "since": since} for channel, since in wanted.items()]
        return [json.dumps({"type": "subscribe", "channels": asked})]

    def unsubscribe(self, channel: str) -> str:
        return json.dumps({"type": "unsubscribe", **self._request(channel)})

    def message(self, channel: str, number: int) -> str:
        return json.dumps({"type": "something", "where": channel, "n": number}, indent=1) + "\n"

    def answered(self, said: dict[str, Any]) -> str | None:
        if said["type"] != "subscription_response":
            return None
        assert said["status"] == "subscribed"
        return next(channel for channel, inner in self.channels.items() if inner == said["subscription"])

    def heard(self, said: dict[str, Any]) -> tuple[str, int] | None:
        if said["type"] != "something":
            return None
        assert said.get("subscription") in (self.channels[said["where"]], None)
        return said["where"], said["n"]


Speech = Exchanges | CantonDex


class Process:
    """What it has is lost with it, but for the rings after an orderly stop."""

    def __init__(self, chance: random.Random, speech: Speech, before: Process | None, orderly: bool) -> None:
        self.engine = Engine()
        self.engine.turn.clock = lambda: self.engine.now
        self.gateway = Gateway(CONFIG, self.engine, {speech.dialect: Elsewhere()})
        self.line: list[DialectLink] = []
        self.count: int = chance.choice((5, 60, 10**6)) if before is None else before.count
        if before is None or not orderly:
            self.positions = Positions(f"e{chance.random()}")
        else:
            old = before.positions
            self.positions = Positions(
                f"e{chance.random()}", old.number, {**old.older, old.epoch: old.number}
            )
        self.ring = Ring(self.positions, b"$ws/%b/+" % speech.dialect.encode(), 10**9, self.count, 1e9)
        if before is not None and orderly:
            kept = [(copied(one), at, place) for one, at, place in before.ring.kept()]
            self.ring.restore(kept, before.ring.lost_through, "gone")
        self.engine.subscribe(self.ring, self.ring.topic_filter, 0)
        if before is not None:
            for one in before.engine.retained.all():
                self.engine.retained.put(Publication(one.topic, one.payload, 0, True))
        self.history = History(self.positions, [self.ring])
        self.readers = Readers(self.history, self.line.append, lambda *_: None, lambda *_: None)  # type: ignore[arg-type]


def copied(publication: Publication) -> Publication:
    made = Publication(publication.topic, publication.payload)
    made.sequence = publication.sequence
    return made


class Wire:
    """A link with a kernel that takes as many bytes as it likes, and a wire that may be cut."""

    def __init__(self, process: Process, chance: random.Random, speech: Speech) -> None:
        self.process = process
        self.data = b""
        self.takes = 10**9
        self.parser = FrameParser()
        engine = process.engine
        limit = chance.choice((2_000, 20_000, 1_000_000))
        self.outbox = Outbox(engine.round, limit, self._send)
        kind = next(one for one in CONFIG.dialects if one.name == speech.dialect)
        dialect = kind.open(Asked(), None, Clock(0.0), engine.now)
        self.link = DialectLink(
            dialect, process.gateway, self.outbox, "peer", 65536, self._log_in, process.readers
        )
        self.link.open()
        self.say(speech.login)
        self.takes = 0

    def _log_in(self, link: DialectLink, token: str) -> None:
        link.logged_in(Identity(token))

    def _send(self, data: bytes) -> int:
        taken = min(self.takes, len(data))
        if not taken:
            raise BlockingIOError
        self.takes -= taken
        self.data += data[:taken]
        return taken

    def say(self, text: str) -> None:
        self.link.received(masked(0x81, text.encode()))
        self.process.engine.flush()

    def move(self, takes: int) -> None:
        """The kernel takes some more, and those who catch up have their turn."""
        self.takes = takes
        if self.outbox.blocked:
            self.outbox.writable()
        for link in self.process.line[:]:
            self.process.line.remove(link)
            link.catch_up()
        self.process.engine.flush()

    def hear(self, count: int = 10**9) -> tuple[list[dict[str, Any]], int | None]:
        data, self.data = self.data[:count], self.data[count:]
        texts, code = self.parser.texts(data)
        return [json.loads(text) for text in texts], code

    def cut(self) -> None:
        self.outbox.close()
        self.link.lost()
        self.link.ended()


class Application:
    """A client as a document has it, that also keeps `at` of each channel."""

    def __init__(self, speech: Speech) -> None:
        self.speech = speech
        self.since: dict[str, str] = dict.fromkeys(speech.channels, "now")
        self.got: dict[str, list[int]] = {channel: [] for channel in speech.channels}
        self.newest: dict[str, int] = {}
        self.gaps = 0
        self.recovered = 0

    def take(self, said: dict[str, Any]) -> None:
        channel = self.speech.answered(said)
        if channel is not None:
            assert said["recovered"] is ("reason" not in said)
            self.since[channel] = said["at"]
            self.recovered += said["recovered"]
            if not said["recovered"]:
                self.gaps += 1
                self.got[channel].clear()
            return
        heard = self.speech.heard(said)
        if heard is None:
            return
        channel, number = heard
        self.newest[channel] = number
        if "at" in said:
            self.since[channel] = said["at"]
            self.got[channel].append(number)
        else:
            assert channel == self.speech.retained


class Play:
    """One run."""

    def __init__(self, seed: int, speech: Speech) -> None:
        self.chance, self.speech = random.Random(seed), speech
        self.application = Application(speech)
        self.process = Process(self.chance, speech, None, False)
        self.wire: Wire | None = None
        self.published: dict[str, list[int]] = {channel: [] for channel in speech.channels}
        self.number = 0
        self.was_lossy = False

    def run(self) -> Application:
        for step in range(self.chance.randint(20, 200)):
            self.process.engine.now = step / 100
            for _ in range(self.chance.choice((0, 1, 1, 4, 40))):
                self.publish(self.chance.choice(list(self.speech.channels)))
            self.process.engine.flush()
            self.step()
        self.end()
        for _ in range(1_000):
            if self.wire is None:
                self.connect()
                self.end()
            self.turn(10**9, 10**9)
            if all(self.application.newest.get(one) == self.published[one][-1] for one in self.published):
                break
        else:
            raise AssertionError("the last messages never came")
        self.check()
        return self.application

    def end(self) -> None:
        """One more for each channel: who has it is live."""
        for channel in self.speech.channels:
            self.publish(channel)
        self.process.engine.flush()

    def step(self) -> None:
        chance = self.chance
        if self.wire is None:
            if chance.random() < 0.5:
                self.connect()
            return
        self.turn(chance.choice((0, 1, 100, 5_000, 10**9)), chance.choice((1, 7, 300, 10**9)))
        dice = chance.random()
        if dice < 0.04:
            self.disconnect()
        elif dice < 0.05:
            self.disconnect()
            orderly = chance.random() < 0.7
            self.was_lossy |= not orderly
            self.process = Process(chance, self.speech, self.process, orderly)
        elif dice < 0.055:
            self.was_lossy = True
            self.process.history.interrupt("rows may be missing")
        elif self.wire is not None and dice < 0.08:
            channel = chance.choice(list(self.speech.channels))
            self.wire.say(self.speech.unsubscribe(channel))
            while self.wire is not None and (self.wire.outbox.pending_bytes or self.wire.data):
                self.turn(10**9, 10**9)  # nothing of the channel is on its way any more
            if self.wire is not None:
                self.subscribe({channel: self.application.since[channel]})

    def publish(self, channel: str) -> None:
        self.number += 1
        self.published[channel].append(self.number)
        topic = topic_of(self.speech.dialect, self.speech.channels[channel])
        text = self.speech.message(channel, self.number).encode()
        self.process.engine.publish(Publication(topic, text, 0, channel == self.speech.retained))

    def connect(self) -> None:
        self.wire = Wire(self.process, self.chance, self.speech)
        self.subscribe(self.application.since)

    def subscribe(self, wanted: dict[str, str]) -> None:
        assert self.wire is not None
        for text in self.speech.subscribe(wanted):
            self.wire.say(text)

    def disconnect(self) -> None:
        if self.wire is not None:
            self.wire.cut()
            self.wire = None

    def turn(self, takes: int, count: int) -> None:
        """The kernel takes so many bytes, and as many come out of the wire at the other end."""
        assert self.wire is not None
        self.wire.move(takes)
        said, code = self.wire.hear(count)
        for one in said:
            self.application.take(one)
        if code is not None:
            assert code == 1008
            self.disconnect()

    def check(self) -> None:
        for channel, wanted in self.published.items():
            got = self.application.got[channel]
            # Since it was told of a gap: all of it, up to the end.
            assert got == wanted[len(wanted) - len(got) :], channel
        if self.process.count == 10**6 and not self.was_lossy:
            assert self.application.gaps == 0


@pytest.mark.parametrize("speech", [Exchanges(), CantonDex()], ids=["exchange", "canton"])
def test_every_message_in_order_and_once_or_a_gap(speech: Speech) -> None:
    check(range(8), speech)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("speech", [Exchanges(), CantonDex()], ids=["exchange", "canton"])
def test_the_same_for_a_thousand_seeds(speech: Speech) -> None:
    check(range(100, 1100), speech)


def check(seeds: range, speech: Speech) -> None:
    gaps = got = recovered = 0
    for seed in seeds:
        application = Play(seed, speech).run()
        gaps += application.gaps
        recovered += application.recovered
        got += sum(map(len, application.got.values()))
    assert gaps > len(seeds) // 2
    assert recovered > 5 * len(seeds)
    assert got > 50 * len(seeds)


def opened(speech: Speech, count: int = 100) -> tuple[Process, Wire]:
    chance = random.Random(0)
    process = Process(chance, speech, None, False)
    process.ring.count_max = count
    process.positions.epoch, process.positions._prefix = "E", b"E/"
    wire = Wire(process, chance, speech)
    wire.move(10**9)
    wire.hear()
    return process, wire


def publish(process: Process, topic: bytes, text: str) -> None:
    with process.engine.turn:
        process.engine.publish(Publication(topic, text.encode()))


def told(wire: Wire, text: str = "") -> list[str]:
    """The texts that come after saying this."""
    if text:
        wire.say(text)
    texts: list[str] = []
    for _ in range(5):
        wire.move(10**9)
        texts += wire.parser.texts(wire.data)[0]
        wire.data = b""
    return texts


DEPTH = b"$ws/exchange/BTC%2FUSDT@depth"
BODY = '{"event":"BTC/USDT@depth","data":{"bids":[["43000.10",0.0]]}}'


def test_the_exchanges_words_are_as_documented() -> None:
    process, wire = opened(Exchanges())
    ask = '{"op":"subscribe","channel":"BTC/USDT@depth","since":"%s"}'
    assert told(wire, ask % "now") == [
        '{"result":true,"channel":"BTC/USDT@depth","at":"E/0","recovered":true}'
    ]
    publish(process, DEPTH, BODY)
    assert told(wire) == [BODY[:-1] + ',"at":"E/1"}']
    publish(process, DEPTH, BODY)
    wire.cut()
    wire = Wire(process, random.Random(0), Exchanges())
    publish(process, DEPTH, BODY)
    assert told(wire, ask % "E/1") == [
        '{"result":true}',
        '{"result":true,"channel":"BTC/USDT@depth","at":"E/1","recovered":true}',
        BODY[:-1] + ',"at":"E/2"}',
        BODY[:-1] + ',"at":"E/3"}',
    ]
    why = "the position is unknown: this server did not give it, or has forgotten"
    assert told(wire, ask % "X/1") == [
        f'{{"result":true,"channel":"BTC/USDT@depth","at":"E/3","recovered":false,"reason":"{why}"}}'
    ]


def test_cantons_words_are_as_documented() -> None:
    process, wire = opened(CantonDex())
    ask = '{"type":"subscribe","channel":"market_data","symbols":["A/B","C/D"],"since":"now"}'
    assert told(wire, ask) == [
        f'{{"type":"subscription_response","channel":"market_data","symbols":["{symbol}"],"status":"subscribed",'
        f'"message":"Now receiving market data","subscription":"market_data/{symbol}","at":"E/0","recovered":true}}'
        for symbol in ("A/B", "C/D")
    ]
    publish(process, topic_of("canton", "market_data/C/D"), '{ "type" : "price_update" }\n')
    assert told(wire) == ['{ "type" : "price_update","subscription":"market_data/C/D","at":"E/1"}']
    [again] = told(wire, ask)
    assert json.loads(again)["code"] == "ALREADY_SUBSCRIBED"
    for wrong in (
        '"channel":"orders","since":7',
        '"channel":"market_data","symbols":["E"],"aggregation":"1s","since":"now"',
    ):
        [refused] = told(wire, f'{{"type":"subscribe",{wrong}}}')
        assert json.loads(refused)["details"]["reason"].startswith("since must be a position")


def test_who_gives_no_since_gets_the_documents_bytes() -> None:
    process, wire = opened(Exchanges())
    other = Wire(process, random.Random(0), Exchanges())
    told(other, '{"op":"subscribe","channel":"BTC/USDT@depth","since":"now"}')
    assert told(wire, '{"op":"subscribe","channel":"BTC/USDT@depth"}') == ['{"result":true}']
    for text in (BODY, '{"at":1}', "no JSON", '{"a":1', "[1]", "{ }"):
        publish(process, DEPTH, text)
        assert told(wire) == [text]
    ats = [json.loads(text) for text in told(other)]
    assert [one["at"] for one in ats] == [f"E/{number}" for number in range(1, 7)]
    assert [one.get("message") for one in ats] == [None, {"at": 1}, "no JSON", '{"a":1', [1], None]


def test_rights_are_those_of_a_subscription() -> None:
    process, wire = opened(Exchanges())
    publish(process, b"$ws/exchange/1002@order", '{"event":"@order","data":"SECRET OF 1002"}')
    for channel in ("1002@order", "@order"):
        ask = f'{{"op":"subscribe","channel":"{channel}","since":"start"}}'
        assert "SECRET" not in "".join(told(wire, ask))
    assert told(wire, '{"op":"subscribe","channels":["1002@order"],"since":"start"}') == [
        '{"code":1,"msg":"Not Allowed"}'
    ]
    told(wire, '{"op":"auth","token":"1002"}')
    publish(process, b"$ws/exchange/1001@order", '{"event":"@order","data":"SECRET OF 1001"}')
    assert told(wire) == []
    assert "SECRET OF 1002" in told(wire, '{"op":"subscribe","channel":"@order","since":"start"}')[1]


def test_another_login_ends_what_is_still_being_recovered() -> None:
    process, wire = opened(Exchanges(), 10**6)
    for number in range(3_000):
        publish(process, b"$ws/exchange/1001@order", f'{{"event":"@order","data":{number}}}')
    wire.takes = 0
    wire.say('{"op":"subscribe","channel":"@order","since":"start"}')
    wire.say('{"op":"auth","token":"1002"}')
    assert len(told(wire)) < 1_000


class Book(Part):
    def state(self) -> list[bytes]:
        return [b'{"event":"BTC/USDT@depth","data":"all"}']


def test_a_channel_with_a_state_tells_it_first() -> None:
    process, wire = opened(Exchanges())
    process.engine.parts.add(Book(DEPTH, 0, False))
    assert told(wire, '{"op":"subscribe","channel":"BTC/USDT@depth","since":"E/0"}') == [
        f'{{"result":true,"channel":"BTC/USDT@depth","recovered":false,"reason":"{STATE_FIRST}"}}',
        '{"event":"BTC/USDT@depth","data":"all"}',
    ]


def test_a_slow_reader_of_trades_gets_each_and_none_is_left_out() -> None:
    process, wire = opened(Exchanges(), 10**6)
    wire.outbox.limit_bytes = 20_000
    told(wire, '{"op":"subscribe","channel":"BTC/USDT@trades","since":"now"}')
    wire.takes = 0
    for number in range(5_000):
        text = f'{{"event":"BTC/USDT@trades","data":{number}}}'
        publish(process, b"$ws/exchange/BTC%2FUSDT@trades", text)
    assert wire.outbox.pending_bytes < 30_000
    got: list[str] = []
    for _ in range(30):
        got += told(wire)
    assert [json.loads(text)["data"] for text in got] == list(range(5_000))


@pytest.mark.parametrize("since", ["5", "[]", '"' + "x" * 300 + '"'])
def test_a_since_that_is_none_is_told(since: str) -> None:
    _, wire = opened(Exchanges())
    ask = f'{{"op":"subscribe","channel":"BTC/USDT@depth","since":{since}}}'
    assert told(wire, ask) == ['{"code":1,"msg":"Invalid Since"}']


def test_without_a_history_a_reader_is_told_so() -> None:
    process, wire = opened(Exchanges())
    process.history.rings.clear()
    [said] = told(wire, '{"op":"subscribe","channel":"BTC/USDT@depth","since":"E/0"}')
    assert json.loads(said)["recovered"] is False
    assert json.loads(said)["reason"] == "no history is kept of $ws/exchange/BTC%2FUSDT@depth"
