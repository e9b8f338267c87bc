"""`$share/GROUP/FILTER` over nodes: what the log has goes to one member of the group, on whichever node.

One durable consumer of the log for each group and filter; nodes with connected members fetch from it, and acknowledge
what a member has acknowledged.  What a member does not finish, because it left, is given back; what a node does not
finish, because it died, comes to another one after `ACK_WAIT_S`.

QoS 0 of clients is not in the log: every node knows which nodes have members, and the number of the message chooses.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final

import trio

from broker.cluster.group_places import GroupKey, GroupPlaces, Place
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import ask, consumer
from broker.cluster.tasks import Tasks
from broker.cluster.unfinished import Unfinished, owed_to, received_by
from broker.core.promise import Promise
from broker.core.session import Session
from broker.core.shared import SharedGroup, split_shared
from protocol.mqtt.reserved import SHARE_PREFIX
from protocol.mqtt.topics import matches
from protocol.nats import jetstream, subjects, wire
from protocol.nats.delivery import Delivered
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ACK, NAK, NANOSECONDS, ApiError

if TYPE_CHECKING:
    from broker.cluster.gossip import Gossip
    from broker.cluster.reader import LogReader
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine
    from broker.core.publication import Publication

logger = logging.getLogger("broker.cluster")

ACK_WAIT_S: Final = 6.0
IN_PROGRESS_S: Final = 2.0
IN_PROGRESS: Final = b"+WPI"
FETCH_MESSAGES: Final = 50
FETCH_S: Final = 2.0
PER_MEMBER_MAX: Final = 20
"""Messages that a node has taken for its members and that they have not acknowledged, for each of them."""

UNFINISHED_MAX: Final = 10_000
TICK_S: Final = 0.02
AGAIN_S: Final = 0.2
OTHERS_S: Final = 5.0
"""How long those who know where a group was may take to notice that its consumer is gone."""

CLEAN_GROUP_S: Final = 10.0
"""How long a group without a persistent member outlives its last member."""


class Shares:
    """The groups of one node.

    Args:
        mark: of this node, among those that have members.
        keep_s: how long a group with persistent members waits for one.
    """

    def __init__(
        self,
        engine: Engine,
        link: NatsLink,
        names: Names,
        mark: bytes,
        reader: LogReader,
        gossip: Gossip,
        keep_s: float,
        status: ClusterStatus,
    ) -> None:
        self._engine = engine
        self._link = link
        self._names = names
        self._mark = mark
        self._reader = reader
        self._keep_s = keep_s
        self._status = status
        self._ready: set[GroupKey] = set()
        self._waiting: dict[GroupKey, list[Promise]] = {}
        self._lasting: set[GroupKey] = set()
        self._places = GroupPlaces(link, names, reader)
        self._missed_since: dict[GroupKey, float] = {}
        """Groups whose consumer others are to make."""
        self._unfinished: list[Unfinished] = []
        self._given = trio.Event()
        self._given_back: dict[Session, set[int]] = {}
        self._tasks = Tasks()
        self._serving: dict[GroupKey, trio.CancelScope] = {}
        self._gossip = gossip
        gossip.groups_here = self._groups_here
        gossip.groups_new = self._groups_new
        engine.shared.is_here = self._is_here
        engine.shared.on_changed = self._group_changed

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch for the members that are here, until cancelled."""
        async with self._tasks.opened():
            task_status.started()
            self._tasks.start(self._finish)
            for key in self._engine.shared.all_keys():
                self._group_changed(key)
            await trio.sleep_forever()

    # --- groups --------------------------------------------------------------------------------------------

    def _group_changed(self, key: GroupKey) -> None:
        """It has its first member here, or lost its last."""
        if key[1].startswith(b"$SYS"):
            return
        self._gossip.tell_soon()
        if self._engine.shared.get(key) is not None:
            if key not in self._serving:
                scope = self._serving[key] = trio.CancelScope()
                self._tasks.start(self._serve, key, scope)
            return
        self._ready.discard(key)
        served = self._serving.pop(key, None)
        if served is not None:
            served.cancel()
        self._places.forget(key)
        self._missed_since.pop(key, None)

    def promise(self, session: Session) -> Promise | None:
        """What a SUBACK waits for: the groups that it is for have their consumers."""
        promise: Promise | None = None
        for topic_filter in session.subscriptions:
            if topic_filter.startswith(SHARE_PREFIX):
                key = split_shared(topic_filter)
                if key in self._serving and (key not in self._ready or self._has_to_last(key)):
                    promise = promise or Promise()
                    promise.join()
                    self._waiting.setdefault(key, []).append(promise)
        return promise

    def _has_to_last(self, key: GroupKey) -> bool:
        """Whether a persistent member is new to a group that had none."""
        group = self._engine.shared.get(key)
        if group is None or key in self._lasting:
            return False
        return any(isinstance(one, Session) and not one.clean for one in group.members())

    async def _make(self, key: GroupKey) -> None:
        """See that there is a consumer.  Raises: Unavailable, ApiError, NatsProtocolError.

        It is never deleted, since another node might have got a member just then: it ends when nobody has fetched for
        long enough.
        """
        lasts = self._has_to_last(key) or key in self._lasting
        lives = int((max(self._keep_s, CLEAN_GROUP_S) if lasts else CLEAN_GROUP_S) * NANOSECONDS)
        stream, name = self._names.messages, name_of(key)
        here = self._places.here()
        found = await consumer(self._link, stream, name)
        if found is None:
            self._leave_it_to_others(key)
            start = await self._places.start_of(key)
            await self._ask_to(
                "create", stream, name, {**self._config(key, start), "inactive_threshold": lives}
            )
            self._places.begins(key, start)
        elif lasts and int(found.get("inactive_threshold", 0)) < lives:
            await self._ask_to("update", stream, name, {**found, "inactive_threshold": lives})
        self._places.serves(key, here)
        self._missed_since.pop(key, None)
        self._gossip.tell_soon()
        if lasts:
            self._lasting.add(key)

    def _leave_it_to_others(self, key: GroupKey) -> None:
        """Let them make the consumer who know where the group was, as where the log was made anew just now.

        Raises: Unavailable, while they may.
        """
        if self._places.is_new(key) and self._gossip.others_who_know(name_of(key)):
            now = trio.current_time()
            if now < self._missed_since.setdefault(key, now) + OTHERS_S:
                raise Unavailable("other nodes have yet to make the consumer of the group")

    def _config(self, key: GroupKey, start: Place) -> dict[str, Any]:
        """Of a new consumer."""
        prefix = self._names.messages_prefix + b"*.*."
        return {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start[1] + 1,
            "durable_name": name_of(key),
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * NANOSECONDS),
            "max_ack_pending": UNFINISHED_MAX,
            "max_deliver": -1,
            "filter_subjects": [(prefix + one).decode() for one in subjects.subjects_of_filter(key[1])],
        }

    async def _ask_to(self, action: str, stream: str, name: str, config: dict[str, Any]) -> None:
        """Raises: ApiError, also where another node was faster; then it is looked at again."""
        subject, body = jetstream.consumer_create(stream, name, config)
        await ask(self._link, (subject, json.dumps({**json.loads(body), "action": action}).encode()))

    # --- fetching ------------------------------------------------------------------------------------------

    async def _serve(self, key: GroupKey, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await self._link.until_open()
                try:
                    if key not in self._ready or self._waiting.get(key):
                        await self._make(key)
                        self._ready.add(key)
                        with self._engine.turn:
                            for promise in self._waiting.pop(key, []):
                                promise.keep()
                    await self._fetch(key)
                except (Unavailable, ApiError, NatsProtocolError) as error:
                    logger.debug("The group %s: %s", key, error)
                    self._ready.discard(key)
                    await trio.sleep(AGAIN_S)

    def _members(self, group: SharedGroup) -> int:
        return sum([isinstance(one, Session) and one.link is not None for one in group.members()])

    async def _fetch(self, key: GroupKey) -> None:
        """One batch.  Raises: Unavailable, ApiError, NatsProtocolError."""
        group = self._engine.shared.get(key)
        members = 0 if group is None else self._members(group)
        room = min(members * PER_MEMBER_MAX, UNFINISHED_MAX) - len(self._unfinished)
        if room <= 0:
            await trio.sleep(TICK_S)
            return
        wanted = min(room, FETCH_MESSAGES)
        done = trio.Event()
        gone: list[int] = []
        came = 0

        def take(message: wire.Message) -> None:
            nonlocal came
            if message.status == 100:
                return
            if message.status:
                gone.append(message.status)
                done.set()
                return
            came += 1
            self._give(key, message)
            if came >= wanted:
                done.set()

        inbox = self._link.new_inbox()
        sid = self._link.subscribe(inbox, take)
        try:
            request = jetstream.next_messages(self._names.messages, name_of(key), wanted, FETCH_S)
            if not self._link.send(wire.publish(request[0], request[1], inbox)):
                raise Unavailable("not connected")
            with trio.move_on_after(FETCH_S + 1) as waiting:
                while not done.is_set() and not self._waiting.get(key):
                    with trio.move_on_after(0.25):
                        await done.wait()
            if waiting.cancelled_caught:
                raise Unavailable("no answer")
            if 503 in gone or (409 in gone and not came):
                raise Unavailable("the consumer is gone")
        finally:
            self._link.unsubscribe(sid)

    def _give(self, key: GroupKey, message: wire.Message) -> None:
        """To the member whose turn it is.  Inside a turn."""
        about = Delivered(message.reply)
        publication = self._reader.publication_of(message, about.stream_sequence)
        if publication is None:
            self._answer(message.reply, ACK)
            return
        group = self._engine.shared.get(key)
        if group is None or not matches(key[1], publication.topic):
            self._answer(message.reply, ACK if group is not None else NAK)
            return
        for member, granted in list(group.members().items()):
            if not isinstance(member, Session) or member.link is None:
                continue
            if not member.may_read(publication.topic) or not member.outbound.has_room():
                continue
            group.comes_last(member)
            if not member.hand_on(publication, granted, False):
                continue
            self._status.shared += 1
            self._places.gave(key, about.stream_sequence)
            if member.quality(publication, granted) == 0:
                self._answer(message.reply, ACK)
            else:
                now = trio.current_time()
                self._unfinished.append(Unfinished(member, about.stream_sequence, message.reply, now))
                self._given.set()
            return
        self._answer(message.reply, NAK + b' {"delay": %d}' % int(AGAIN_S * NANOSECONDS))

    def _answer(self, reply: bytes, what: bytes) -> None:
        self._link.send(wire.publish(reply, what))

    async def _finish(self) -> None:
        """Look again and again while members have something to acknowledge."""
        while True:
            if not self._unfinished:
                self._given = trio.Event()
                await self._given.wait()
            await trio.sleep(TICK_S)
            self._pass_on()

    def _pass_on(self) -> None:
        """Acknowledge what members have acknowledged."""
        now = trio.current_time()
        owed: dict[Session, set[int]] = {}
        kept: list[Unfinished] = []
        for one in self._unfinished:
            session = one.session
            if session not in owed:
                owed[session] = owed_to(session)
            if one.sequence not in owed[session]:
                self._answer(one.reply, ACK)
                continue
            if now - one.told_at > IN_PROGRESS_S:
                one.told_at = now
                self._answer(one.reply, IN_PROGRESS)
            kept.append(one)
        self._unfinished = kept

    def left(self, session: Session) -> None:
        """Its client is gone: others of the group get what it has not received.  Inside a turn."""
        mine = [one for one in self._unfinished if one.session is session]
        if not mine:
            return
        self._unfinished = [one for one in self._unfinished if one.session is not session]
        received = received_by(session)
        owed = owed_to(session)
        back: set[int] = set()
        for one in mine:
            # A clean session has been emptied by now, so that what it acknowledged just before may come twice.
            if not session.clean and (one.sequence in received or one.sequence not in owed):
                self._answer(one.reply, ACK)
            else:
                self._answer(one.reply, NAK)
                back.add(one.sequence)
        self._given_back[session] = back

    def given_back(self, session: Session) -> set[int]:
        """What is in flight to a client that has left, and others get."""
        return self._given_back.get(session, set())

    def came_back(self, session: Session, epoch: str, cursor: int) -> None:
        """A session was brought here, which had read up to there before its client left.  Inside a turn."""
        for topic_filter in session.subscriptions:
            if topic_filter.startswith(SHARE_PREFIX) and (key := split_shared(topic_filter)) in self._serving:
                self._places.came_back(key, epoch, cursor)

    def forget(self, session: Session) -> None:
        """It is here no more."""
        self._given_back.pop(session, None)

    # --- QoS 0 ---------------------------------------------------------------------------------------------

    def _is_here(self, key: GroupKey, publication: Publication) -> bool:
        if publication.sequence != 0:
            return False  # the consumer brings it
        if not publication.message_id:
            return True  # the broker's own
        nodes = sorted([*self._others(key), self._mark.decode()])
        group = self._engine.shared.get(key)
        if group is None or not self._members(group):
            return False
        return nodes[int(publication.message_id) % len(nodes)] == self._mark.decode()

    def _others(self, key: GroupKey) -> list[str]:
        """Other nodes with members."""
        return self._gossip.others(name_of(key))

    def _groups_here(self) -> list[str]:
        found = []
        for key in self._engine.shared.all_keys():
            group = self._engine.shared.get(key)
            if group is not None and self._members(group):
                found.append(name_of(key))
        return found

    def _groups_new(self) -> list[str]:
        return [name_of(key) for key in self._engine.shared.all_keys() if self._places.is_new(key)]

    def members_changed(self) -> None:
        """A client came or went: the other nodes are told at once."""
        self._gossip.tell_soon()


def name_of(key: GroupKey) -> str:
    """The consumer of a group."""
    return "share-" + hashlib.sha256(b"%b\0%b" % key).hexdigest()[:24]
