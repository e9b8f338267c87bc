"""The world of `test_identity_play`: a broker, its clients, and a naive model of who may say and get what."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

from support.peer import Peer
from support.peer5 import Peer5

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.outbox import nothing
from broker.gateway.authentication import load_rules
from broker.gateway.passwords import Sha512
from broker.links.listening.door import Door
from broker.links.listening.sources import Sources
from broker.storage.database import open_database
from broker.storage.records import restore, snapshot
from broker.storage.writing import Writer
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Will,
)
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY, WILL_DELAY

STARTED = 1_700_000_000.0
USERS = (b"alice", b"bob", None)
CLIENT_IDS = (b"x", b"y")
TOPICS = (b"a", b"b", b"in/a", b"in/b", b"a/b")
FILTERS = (b"#", b"#", b"a", b"+", b"in/#", b"+/a", b"a/b", b"$share/g/#", b"$share/g/a", b"$share/h/+/a")
RULE_FILTERS = (b"#", b"#", b"a", b"b", b"in/#", b"in/a", b"+/b", b"in/+", b"a/#")
PASSWORDS = (b"secret", b"other")
CROWD = 700
"""Sessions that are looked at before the clients', so that these wait for a slice."""
HASHES = [Sha512.make(password) for password in PASSWORDS]


class Place(NamedTuple):
    """A listener: its port, mount point, highest QoS, and whether it asks for a password."""

    port: int
    mount: bytes
    max_qos: int
    passwords: bool = False


PLACES = (
    Place(1, b"", 2),
    Place(2, b"", 2, True),
    Place(3, b"in/", 2),
    Place(4, b"in/", 1),
    Place(5, b"a/", 2),
)
OPEN = Place(9, b"", 2)


class Rule(NamedTuple):
    """Who (None is everybody without a name, `*` everybody), what, and where."""

    user: bytes | None
    access: bytes
    topic_filter: bytes


class Identity(NamedTuple):
    place: Place
    user: bytes | None
    client_id: bytes


class Said(NamedTuple):
    """A message that somebody tried to publish."""

    writer: Identity
    topic: bytes
    qos: int
    is_will: bool
    allowed: bool
    """When it was sent; of a will it is asked when the will goes out."""


def matches(topic_filter: bytes, topic: bytes) -> bool:
    wanted, levels = topic_filter.split(b"/"), topic.split(b"/")
    for at, level in enumerate(wanted):
        if level == b"#":
            return True
        if at >= len(levels) or level not in (b"+", levels[at]):
            return False
    return len(wanted) == len(levels)


class World:
    """The broker, its clients, and the model: `rules` by place, `said` by payload, and per client id what it has."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder = folder
        self.random = random
        self.rules: dict[int, list[Rule]] = {}
        self.known_users: dict[bytes, int] = {}
        self.said: dict[bytes, Said] = {}
        self.out: set[bytes] = set()
        """Payloads that the broker has handed on."""
        self.identities: dict[bytes, Identity] = {}
        """Whose session a client id's is; none where there is no session that lasts or is in use."""
        self.subscriptions: dict[bytes, dict[bytes, int]] = {b"x": {}, b"y": {}}
        self.unreleased: dict[bytes, dict[int, bytes]] = {b"x": {}, b"y": {}}
        self.due: dict[bytes, set[bytes]] = {b"x": set(), b"y": set()}
        self.queued: dict[bytes, set[bytes]] = {b"x": set(), b"y": set()}
        """What may wait for it, or have waited."""
        self.decided: dict[bytes, set[bytes]] = {}
        """Retained messages that stood in a client's queue when rules changed: their writers had been asked about."""
        self.got: dict[bytes, set[bytes]] = {b"x": set(), b"y": set()}
        self.to_answer: dict[bytes, list[Puback | Pubrec | Pubcomp]] = {b"x": [], b"y": []}
        self.peers: dict[bytes, Peer] = {}
        self.lasting: dict[bytes, bool] = {}
        self.wills: dict[bytes, bytes] = {}
        self.wills_at_once: dict[bytes, bool] = {}
        """Clients of 5.0 without a will delay: their will goes out when another connection takes their session."""
        self.write_rules()
        self.doors = {place: self.door(place) for place in (*PLACES, OPEN)}
        self.sources = Sources(self.doors.values())
        self.engine = Engine(window=Window(inflight_messages=2))
        self.begin()

    # --- the broker ----------------------------------------------------------------------------------------

    def write_rules(self) -> None:
        random = self.random
        for place in PLACES:
            rules = self.rules[place.port] = [
                Rule(user, random.choice((b"read", b"write", b"readwrite", b"deny")), topic_filter)
                for user in USERS
                for topic_filter in random.sample(RULE_FILTERS, random.randrange(4))
            ]
            rules += [Rule(user, b"readwrite", b"#") for user in USERS if random.random() < 0.5]
            lines: list[bytes] = []
            for user in (None, b"alice", b"bob"):
                lines += [b"user " + user] if user is not None else []
                lines += [b"topic %s %s" % rule[1:] for rule in rules if rule.user == user]
            (self.folder / str(place.port)).write_bytes(b"\n".join(lines) + b"\n")
        self.known_users = {user: random.randrange(2) for user in (b"alice", b"bob") if random.random() < 0.8}
        text = "".join(f"{user.decode()}:{HASHES[one].encode()}\n" for user, one in self.known_users.items())
        (self.folder / "passwords").write_text(text)
        (self.folder / "passwords").chmod(0o600)

    def security(self, place: Place) -> Security:
        return Security(
            allow_anonymous=not place.passwords,
            acl_file=self.folder / str(place.port) if place is not OPEN else None,
            password_file=self.folder / "passwords" if place.passwords else None,
        )

    def door(self, place: Place) -> Door:
        listener = Listener(
            port=place.port,
            security=self.security(place),
            mount_point=place.mount.decode(),
            max_qos=place.max_qos,
        )
        return Door(listener, Limits(), connection_messages=False)

    def begin(self) -> None:
        """Read the rules, and let in whoever sees everything."""
        self.sources.renew(self.engine)
        self.everything = Peer(self.engine, self.doors[OPEN])
        self.everything.send(Connect(b"everything", True, 0), Subscribe(1, ((b"#", 0),)))
        self.everything.read()
        self.outsider = Peer(self.engine, self.doors[OPEN])
        self.outsider.send(Connect(b"outsider", True, 0))

    def reload(self) -> None:
        before = self.known_users
        for session in self.engine.sessions.values():
            waiting = [one.message.payload for one in session.outbound.queued() if one.retain]
            self.decided.setdefault(session.client_id, set()).update(waiting)
        self.write_rules()
        rules = load_rules(self.security(place) for place in self.doors)
        for place, door in self.doors.items():
            door.rules = rules[self.security(place)]
            door.configure(door.listener, Limits(), False)
        self.renew_behind_a_crowd()
        for client_id, identity in list(self.identities.items()):
            peer = self.peers.get(client_id)
            user = identity.user
            if peer is not None and identity.place.passwords and user is not None:
                peer.write(b"\xc0\x00")  # whoever says anything is looked at before its turn
                assert peer.closed == (self.known_users.get(user) != before.get(user))
                if peer.closed:
                    self.take_back_will(client_id)
                    self.forget(client_id)
        self.keep_what_may_be_read()

    def renew_behind_a_crowd(self) -> None:
        """The clients are looked at by slices, which `slice` goes on with; before that they go by the new rules."""
        engine = self.engine
        for number in range(CROWD):
            client_id = b"crowd %d" % number
            older = engine.sessions.get(client_id)
            if older is not None:
                engine.end_session(older)
            engine.open_session(client_id, True)
        engine.slicing.on_waiting = nothing
        self.sources.renew(engine)
        engine.slicing.on_waiting = None
        engine.flush()
        assert engine.slicing.waits()

    def slice(self) -> None:
        """Go on with what waits for that."""
        self.engine.slicing.turn()
        self.engine.flush()

    def restart(self) -> None:
        for client_id in list(self.peers):
            self.drop(client_id)
        self.look()
        path = self.folder / "rowcast.db"
        connection, saved = open_database(path)
        with closing(connection):
            Writer(connection, saved).write(snapshot(self.engine, STARTED + self.engine.now), pause_s=0.0)
        connection, saved = open_database(path)
        connection.close()
        now = self.engine.now
        self.engine = Engine(window=Window(inflight_messages=2))
        self.engine.now = now
        restore(self.engine, saved, STARTED + now)
        self.begin()

    # --- the clients ---------------------------------------------------------------------------------------

    def connect(self) -> None:
        random = self.random
        client_id, user = random.choice(CLIENT_IDS), random.choice(USERS)
        before = self.identities.get(client_id)
        places: tuple[Place, ...] = PLACES
        if before is not None and random.random() < 0.85:  # its session goes on
            places = tuple(place for place in PLACES if place.mount == before.place.mount)
        place = random.choice(places)
        level, clean, lasts = random.choice((3, 4, 5)), random.random() < 0.1, random.random() < 0.9
        identity = Identity(place, user, client_id)
        will = None
        said: Said | None = None
        if random.random() < 0.5:
            topic, qos = random.choice(TOPICS), random.randrange(place.max_qos + 1)
            said = Said(identity, place.mount + topic, qos, True, True)
            delay = random.choice((0, 30))
            properties = Properties({WILL_DELAY: delay}) if delay and level == 5 else Properties()
            will = Will(topic, b"%d will" % len(self.said), qos, random.random() < 0.5, properties)
        password = PASSWORDS[self.known_users.get(user or b"", 0)]
        properties = Properties({SESSION_EXPIRY: 100_000}) if level == 5 and lasts else Properties()
        packet = Connect(
            client_id,
            clean,
            0,
            level,
            will,
            user,
            password if user is not None else None,
            properties=properties,
        )
        refused = place.passwords and (user is None or user not in self.known_users)
        peer = (Peer5 if level == 5 else Peer)(self.engine, self.doors[place])
        # What was decided for whoever has the session now ends here, but for an attempt that fails.
        ends = False
        if not refused:
            older = self.peers.pop(client_id, None)
            ends = (
                clean
                or before is None
                or before.place.mount != place.mount
                or (older is not None and not self.lasting[client_id])
            )
            if ends:
                self.end_session(client_id)
            else:
                if older is None or not self.wills_at_once.get(client_id):
                    self.take_back_will(client_id)
                self.hand_over(client_id, user)
            self.wills.pop(client_id, None)
            if will is not None and said is not None:
                self.said[will.payload] = said
                self.wills[client_id] = will.payload
                self.wills_at_once[client_id] = level == 5 and will.properties.is_empty()
            self.to_answer[client_id] = []
            self.identities[client_id] = identity
            self.peers[client_id] = peer
            self.lasting[client_id] = lasts if level == 5 else not clean
            self.keep_what_may_be_read()
        peer.send(packet)
        if refused:
            assert peer.closed
        elif ends:
            self.look()
            for _ in range(2):
                self.subscribe(client_id)

    def hand_over(self, client_id: bytes, user: bytes | None) -> None:
        """What waits for its PUBREL is judged by the rights of whoever sent it, before somebody else may release it."""
        before = self.identities[client_id]
        for payload in self.unreleased[client_id].values() if user != before.user else ():
            said = self.said[payload]
            if not self.may(before, b"write", said.topic):
                self.said[payload] = said._replace(allowed=False)

    def take_back_will(self, client_id: bytes) -> None:
        payload = self.wills.pop(client_id, None)
        if payload is not None:
            self.said[payload] = self.said[payload]._replace(allowed=False)

    def forget(self, client_id: bytes) -> None:
        """Its connection is gone."""
        self.peers.pop(client_id, None)
        self.to_answer[client_id] = []
        if not self.lasting[client_id]:
            self.end_session(client_id)
            self.identities.pop(client_id, None)

    def end_session(self, client_id: bytes) -> None:
        self.subscriptions[client_id] = {}
        self.unreleased[client_id] = {}
        self.due[client_id] = set()
        self.got[client_id] = set()
        self.queued[client_id] = set()

    def drop(self, client_id: bytes, *, politely: bool = False) -> None:
        peer = self.peers[client_id]
        if politely:
            self.take_back_will(client_id)
            peer.send(Disconnect())
        else:
            peer.drop()
        self.forget(client_id)

    def subscribe(self, client_id: bytes) -> None:
        topic_filter, qos = self.random.choice(FILTERS), self.random.randrange(3)
        place = self.identities[client_id].place
        self.subscriptions[client_id][topic_filter] = min(qos, place.max_qos)
        self.peers[client_id].send(Subscribe(9, ((topic_filter, qos),)))

    def unsubscribe(self, client_id: bytes) -> None:
        topic_filter = self.random.choice(FILTERS)
        self.subscriptions[client_id].pop(topic_filter, None)
        self.peers[client_id].send(Unsubscribe(9, (topic_filter,)))

    def publish(self, client_id: bytes) -> None:
        random = self.random
        identity = self.identities[client_id]
        topic, qos = random.choice(TOPICS), random.randrange(identity.place.max_qos + 1)
        if qos == 2 and len(self.unreleased[client_id]) >= 2:
            qos = 1  # more than the receive maximum would end the connection
        full = identity.place.mount + topic
        payload = b"%d" % len(self.said)
        packet_id = 1 + len(self.said) if qos else 0
        self.said[payload] = Said(identity, full, qos, False, self.may(identity, b"write", full))
        if qos == 2:
            self.unreleased[client_id][packet_id] = payload
        packet = Publish(topic, payload, qos, random.random() < 0.4, packet_id=packet_id)
        self.peers[client_id].send(packet)

    def outside(self) -> None:
        """Somebody who may do everything publishes."""
        for topic in self.random.sample(TOPICS, 3):
            qos = self.random.randrange(3)
            payload = b"%d" % len(self.said)
            writer = Identity(OPEN, None, b"outsider")
            self.said[payload] = Said(writer, topic, qos, False, True)
            self.outsider.send(
                Publish(topic, payload, qos, self.random.random() < 0.2, packet_id=1 if qos else 0)
            )
            if qos == 2:
                self.outsider.send(Pubrel(1))
            self.look()

    def release(self, client_id: bytes) -> None:
        for packet_id, payload in list(self.unreleased[client_id].items()):
            said = self.said[payload]
            allowed = self.may(self.identities[client_id], b"write", said.topic)
            self.said[payload] = said._replace(allowed=said.allowed and allowed)
            del self.unreleased[client_id][packet_id]
            self.peers[client_id].send(Pubrel(packet_id))

    def acknowledge(self, client_id: bytes) -> None:
        answers, self.to_answer[client_id] = self.to_answer[client_id], []
        self.peers[client_id].send(*answers)

    def wait(self) -> None:
        self.engine.now += 20
        self.engine.expire()
        self.engine.flush()

    # --- the model -----------------------------------------------------------------------------------------

    def may(self, identity: Identity, access: bytes, topic: bytes) -> bool:
        said = [
            rule.access
            for rule in self.rules.get(identity.place.port, ())
            if rule.user == identity.user and matches(rule.topic_filter, topic)
        ]
        return identity.place is OPEN or (b"deny" not in said and any(access in one for one in said))

    def granted(self, client_id: bytes, topic: bytes, *, shared: bool) -> list[int]:
        """The QoS of each subscription of the session that matches."""
        identity = self.identities[client_id]
        found: list[int] = []
        for topic_filter, qos in self.subscriptions[client_id].items():
            plain = topic_filter
            if topic_filter.startswith(b"$share/"):
                if not shared:
                    continue
                plain = topic_filter.split(b"/", 2)[2]
            if len(topic) > len(identity.place.mount) and matches(identity.place.mount + plain, topic):
                found.append(min(qos, identity.place.max_qos))
        return found

    def keep_what_may_be_read(self) -> None:
        """Rules or identities changed: what waits is due only to whoever may read it now."""
        for client_id, identity in self.identities.items():
            self.due[client_id] = {
                payload
                for payload in self.due[client_id]
                if self.may(identity, b"read", self.said[payload].topic)
            }

    def look(self) -> None:
        """Read what everybody got, and hold it against the model."""
        new: list[bytes] = []
        for packet in self.everything.read():
            assert isinstance(packet, Publish)
            said = self.said[packet.payload]
            assert packet.topic == said.topic
            assert said.allowed, said
            if said.is_will:
                assert self.may(said.writer, b"write", said.topic), said
            assert packet.payload not in self.out, "handed on twice"
            self.out.add(packet.payload)
            new.append(packet.payload)
        for client_id in self.identities:
            for payload in new:
                if self.granted(client_id, self.said[payload].topic, shared=True):
                    self.queued[client_id].add(payload)
        for client_id, peer in list(self.peers.items()):
            live = self._read(client_id, peer, new)
            identity = self.identities[client_id]
            for payload in new:
                said = self.said[payload]
                granted = self.granted(client_id, said.topic, shared=False)
                if not granted or not self.may(identity, b"read", said.topic):
                    continue
                qos = {min(said.qos, one) for one in granted}
                if qos == {0} and said.is_will and said.writer.client_id == client_id:
                    continue  # it went out while its own client was between two connections
                if qos == {0}:
                    assert payload in live, (client_id, identity, said)
                elif payload not in live:
                    self.due[client_id].add(payload)
        for client_id, identity in self.identities.items():
            if client_id in self.peers:
                continue
            for payload in new:
                said = self.said[payload]
                granted = self.granted(client_id, said.topic, shared=False)
                if granted and min(said.qos, *granted, 2) > 0 and self.may(identity, b"read", said.topic):
                    self.due[client_id].add(payload)

    def _read(self, client_id: bytes, peer: Peer, new: list[bytes]) -> set[bytes]:
        """What came to a client; each message is held against the model."""
        identity = self.identities[client_id]
        live: set[bytes] = set()
        for packet in peer.read():
            if isinstance(packet, Pubrel):
                self.to_answer[client_id].append(Pubcomp(packet.packet_id))
            if not isinstance(packet, Publish):
                continue
            said = self.said[packet.payload]
            topic = identity.place.mount + packet.topic
            about = (identity, said, packet)
            assert topic == said.topic, about
            assert packet.payload in self.out, about
            assert self.may(identity, b"read", topic), about
            began = packet.dup and packet.payload in self.got[client_id]  # though it has unsubscribed since
            waited = packet.payload in self.queued[client_id]
            assert self.granted(client_id, topic, shared=True) or waited or began, about
            self.got[client_id].add(packet.payload)
            own_will = said.is_will and said.writer.client_id == client_id  # queued under the identity before
            if packet.payload in new and not own_will:
                granted = self.granted(client_id, topic, shared=True)
                assert packet.qos <= min(said.qos, max(granted)), about
            if packet.retain and not packet.dup and packet.payload not in self.decided.get(client_id, ()):
                assert self.may(said.writer, b"write", topic), about
            else:
                live.add(packet.payload)
            self.due[client_id].discard(packet.payload)
            if packet.qos:
                answer = Puback if packet.qos == 1 else Pubrec
                self.to_answer[client_id].append(answer(packet.packet_id))
        return live

    def finish(self) -> None:
        """Everybody who is here acknowledges all that comes; then nothing is due any more."""
        for client_id in list(self.peers):
            for _ in range(400):
                if not self.to_answer[client_id]:
                    break
                self.acknowledge(client_id)
                self.look()
            assert self.due[client_id] == set(), (client_id, self.identities[client_id])
