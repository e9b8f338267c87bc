"""The broker itself: the only place where sessions, subscriptions and retained messages change.  No I/O, no clock.

Every method is synchronous and therefore atomic.  Bytes end in outboxes; `flush` makes one send of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.core.access import Access, same_rights
from broker.core.barrier import A_CONNECTION, barrier
from broker.core.closed_topics import DROPPED_SILENTLY, closed_to_clients
from broker.core.counters import Counters
from broker.core.ending import Catching, Endings, Parting
from broker.core.limits import PLAIN_SUBSCRIPTIONS_MAX
from broker.core.outbox import Outbox, Round
from broker.core.parts import PartStore
from broker.core.policy import Policy as Policy
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.replaying import Replaying
from broker.core.retained import RetainedStore
from broker.core.review import Review, Reviewing, Settling
from broker.core.saving import Saving
from broker.core.session import DeliveryRules, Link, Session
from broker.core.shared import SharedGroups, is_closed, split_shared
from broker.core.slicing import Slicing
from broker.core.trie import SubscriptionTrie
from broker.core.turn import Turn
from protocol.mqtt.books import Books
from protocol.mqtt.framing import REMAINING_LENGTH_MAX
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import SUBSCRIBE_FAILURE
from protocol.mqtt.reserved import SHARE_PREFIX
from protocol.mqtt.topics import DOLLAR
from protocol.mqtt.v5.reasons import NO_MATCHING_SUBSCRIBERS, NOT_AUTHORIZED, QUOTA_EXCEEDED
from protocol.mqtt.v5.subscribing import capped

RECHECKED_MAX: Final = 64
"""Subscriptions of a client with other rights whose topics are resolved anew; with more of them, all topics are."""


class Engine:
    """Sessions, subscriptions, retained messages, and the one way in for publications.

    Args:
        policy, window, rules: the configuration's, as the core needs it.
    """

    def __init__(
        self, policy: Policy | None = None, window: Window | None = None, rules: DeliveryRules | None = None
    ) -> None:
        self.policy = policy if policy is not None else Policy()
        self.window = window if window is not None else Window()
        self.rules = rules if rules is not None else DeliveryRules()
        self.counters = Counters()
        self.round = Round(self.counters)
        self.trie = SubscriptionTrie(self.policy.allow_duplicate_messages)
        self.books = Books()
        self.store = self.books.store
        self.retained = RetainedStore(self.store, self.counters)
        self.retained.messages_max = self.policy.retained_messages_max
        self.retained.bytes_max = self.policy.retained_bytes_max
        self.replaying = Replaying(self)
        self.slicing = Slicing()
        self.review = Review()
        self.parts = PartStore()
        self.sessions: dict[bytes, Session] = {}
        self.connected = 0
        self.now = 0.0
        """Monotonic seconds, set at the beginning of each turn."""
        self.books.clock = lambda: self.now
        self.books.on_discarded = self.counters.discarded
        self.books.may_get = self._may_get
        self.books.on_more = self._owes_more
        self.endings = Endings(self)
        self.turn = Turn(self)
        """The way to work on the engine from outside: `with engine.turn:`."""
        self.changes = 0
        """Counts up when a durable session, its subscriptions or what it sends change; see `kept_changes`."""
        self.may_still_write: Callable[[Publication], bool] | None = None
        """Asked before a retained message is sent, where `check_retain_source` and access rules are on."""
        self.shared = SharedGroups(self.trie)
        self.saving: Saving | None = None
        """Where acknowledgements wait for the disk."""
        self.ingest: Callable[[Publication], None] | None = None
        """Offers a message to tables only, where there are any; see `broker.ingest`."""
        self.log: Callable[[Publication], bool] | None = None
        """Takes a publication to the log that nodes share; if True, it comes back from there by `publish_here`."""
        self.catch_up: Callable[[Session, bytes, int], None] | None = None
        """Begins a replay, where retained messages may still have to come from the log."""
        self.on_detached: Callable[[Session], None] | None = None
        """Told that a connection has ended, where nodes share sessions."""
        self.keep: Callable[[Session], Promise | None] | None = None
        self.finish: Callable[[Session, int], Promise | None] | None = None
        """What a SUBACK or UNSUBACK, and the PUBCOMP of a packet id, wait for, where nodes share sessions."""

    def adopt(self, policy: Policy, window: Window, rules: DeliveryRules) -> None:
        """Take over new settings; sessions share the objects that hold them, so it holds for all at once."""
        limit_s = self.policy.persistent_client_expiration_s
        self.policy = policy
        if policy.persistent_client_expiration_s != limit_s:
            self.endings.limit_changed()
        self.trie.copy_per_filter(policy.allow_duplicate_messages)
        self.retained.messages_max = policy.retained_messages_max
        self.retained.bytes_max = policy.retained_bytes_max
        self.window.adopt(window)
        if self.rules.adopt(rules):
            self.slicing.begin(Settling(self))

    def kept_changes(self) -> int:
        """Changes, since the start, of anything that a snapshot holds."""
        return self.changes + self.books.changes + self.retained.changes

    def note_change(self, session: Session) -> None:
        """Something of this session changed that a snapshot would hold, if the session is durable."""
        if not session.clean:
            self.changes += 1
            session.outbound.mark_unsaved()

    # --- connections ---------------------------------------------------------------------------------------

    def open_session(self, client_id: bytes, clean: bool, mount_point: bytes = b"") -> tuple[Session, bool]:
        """The session for a client that connects, and whether it resumes stored state [MQTT-3.2.2-2].

        A session of another mount point ends: its topics have no name below this one.  An older connection of the
        same id must have been ended by the caller; `identify` must follow, of a new session its own.
        """
        session = self.sessions.get(client_id)
        if session is not None and (clean or session.clean or session.mount_point != mount_point):
            self.end_session(session)  # [MQTT-3.1.2-6]
            session = None
        present = session is not None
        if session is None:
            session = Session(
                client_id, clean, self.rules, self.window, self.counters, self.books, self.review
            )
            self.sessions[client_id] = session
        self.note_change(session)
        return session, present

    def identify(
        self,
        session: Session,
        user_name: bytes | None,
        access: Access | None,
        mount_point: bytes = b"",
        bridge: bool = False,
        max_qos: int = 2,
        listener_port: int = 0,
    ) -> None:
        """Who has this session from now on; what was decided or kept for somebody else is decided again.

        Subscriptions stay, and bring what the new identity may read.  What is queued or in flight is looked at when
        it would be sent, what waits for a PUBREL here, with the rights of whoever sent it, and again when released.
        """
        if session.edition != self.review.edition:
            self.review.renew(session)
        before = session.access
        inbound = session.inbound
        if inbound is not None and before is not None and user_name != session.user_name:
            for packet_id, message in inbound.pending():
                if not before.may_write(message.topic):
                    inbound.forget(packet_id)
                    self.counters.dropped_acl += 1
        session.identify(user_name, access, mount_point, bridge, max_qos, listener_port)
        if self.trie.filtered and not same_rights(before, access):
            if len(session.subscriptions) > RECHECKED_MAX:
                self.trie.forget()
                return
            for topic_filter in session.subscriptions:
                if not topic_filter.startswith(SHARE_PREFIX):  # a group asks its members each time
                    self.trie.recheck(topic_filter)

    def reconsider(self) -> None:
        """The rules were read again: who may do what is decided anew, of everybody; `review.judge` knows it."""
        self.trie.forget()
        self.slicing.begin(Reviewing(self))

    def attach(self, session: Session, link: Link, outbox: Outbox) -> None:
        """The connection is accepted: everything that waits for this client goes out."""
        self.connected += 1
        if self.connected > self.counters.clients_maximum:
            self.counters.clients_maximum = self.connected
        self.settle_plain(session)
        session.attach(link, outbox, self.saving)
        outbox.on_drained = None
        if session.replays is not None:
            self.replaying.go_on(session)

    def detach(self, session: Session, send_will: bool) -> None:
        """The connection of this session ended; its will goes out unless it said goodbye [MQTT-3.14.4-3]."""
        self.connected -= 1
        session.detach(self.now)
        will = session.will
        session.will = None
        if session.clean:
            self.end_session(session)
        self.note_change(session)
        if will is not None and send_will and not self.endings.delay_will(session, will):
            session.will = will
            self.send_will(session)  # [MQTT-3.1.2-8]
        self.endings.left(session)
        if self.on_detached is not None:
            self.on_detached(session)

    def send_will(self, session: Session) -> None:
        """The will of a connected client, now: the broker is about to close its connection."""
        will = session.will
        session.will = None
        if will is not None:
            if session.will_expiry_s >= 0:
                will.expires_at = self.now + session.will_expiry_s
            with barrier(self.counters, A_CONNECTION):  # whatever it meets, its client ends all the same
                self.publish_from(session, will)

    def end_session(self, session: Session) -> None:
        """Nothing is kept of it from now on; its connection, if it has one, was ended by the caller."""
        self.endings.publish_will(session)
        self.endings.forget(session)
        self.replaying.drop(session)
        self.slicing.begin(Parting(self, session, session.discard()))
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        self.note_change(session)

    def settle_plain(self, session: Session) -> int:
        """Hand raw packets to this session from now on, or no more, by what holds now; steps taken, and counted."""
        plain = session.takes_raw_packets()
        if plain == session.plain:
            return 0
        session.plain = plain
        steps = len(session.subscriptions) >> 2
        self.slicing.used(steps)
        for topic_filter in session.subscriptions:
            if not topic_filter.startswith(SHARE_PREFIX):  # a group takes none in any case
                self.trie.settle_plain(topic_filter, session)
        return steps

    def _may_get(self, client_id: bytes, topic: bytes) -> bool:
        session = self.sessions.get(client_id)
        return session is None or session.may_read(session.mount_point + topic)

    def _owes_more(self, client_id: bytes) -> None:
        session = self.sessions.get(client_id)
        if session is not None:
            self.slicing.begin(Catching(session))

    # --- subscriptions -------------------------------------------------------------------------------------

    def subscribe_session(self, session: Session, topic_filter: bytes, wanted: int) -> int:
        """One filter of a SUBSCRIBE; the SUBACK code.  Retained messages follow by `replay`.

        Args:
            topic_filter: valid, with the session's mount point.
            wanted: QoS, or more, as `protocol.mqtt.v5.subscribing` says it.
        """
        if topic_filter[0] == DOLLAR and is_closed(topic_filter):
            return SUBSCRIBE_FAILURE
        subscriptions_max = self.policy.subscriptions_max
        if 0 < subscriptions_max < session.weight_with(topic_filter):
            self.counters.subscriptions_refused += 1
            return QUOTA_EXCEEDED
        granted = capped(wanted, session.max_qos)
        session.keep(topic_filter, granted)
        self.subscribe(session, topic_filter, granted)
        if len(session.subscriptions) > PLAIN_SUBSCRIPTIONS_MAX and session.plain:
            self.settle_plain(session)
        self.note_change(session)
        return granted if granted <= 2 else granted & 3

    def subscribe(self, receiver: Receiver, topic_filter: bytes, granted: int) -> bool:
        """Add any receiver to a filter; whether the subscription is new."""
        if topic_filter.startswith(SHARE_PREFIX):
            group, topic_filter = split_shared(topic_filter)
            if group:
                return self.shared.subscribe(group, topic_filter, receiver, granted)
        return self.trie.subscribe(topic_filter, receiver, granted)

    def unsubscribe(self, receiver: Receiver, topic_filter: bytes) -> bool:
        """Remove a receiver from a filter; whether it was there."""
        if isinstance(receiver, Session):
            receiver.leave(topic_filter)
            self.replaying.forget(receiver, topic_filter)
            self.note_change(receiver)
        return self.leave(receiver, topic_filter)

    def leave(self, receiver: Receiver, topic_filter: bytes) -> bool:
        """`unsubscribe`, for who keeps its subscriptions itself, or has ended."""
        group, plain_filter = split_shared(topic_filter)
        if group:
            return self.shared.unsubscribe(group, plain_filter, receiver)
        return self.trie.unsubscribe(plain_filter, receiver)

    # --- retained messages for a new subscription ----------------------------------------------------------

    def replay(self, session: Session, topic_filter: bytes, granted: int) -> None:
        """Send the retained messages that a new or repeated subscription gets."""
        if self.catch_up is None:
            self.replaying.begin(session, topic_filter, granted)
        else:
            self.catch_up(session, topic_filter, granted)

    # --- publications --------------------------------------------------------------------------------------

    def publish_from(self, session: Session, publication: Publication) -> int:
        """A client's message: checked against what it may do, then as any other.

        A message it may not publish is dropped and still acknowledged, as by Mosquitto.

        Returns:
            The reason code that a client of 5.0 is told.
        """
        refusal = self.refusal(session, publication)
        if refusal:
            return 0 if refusal == DROPPED_SILENTLY else refusal
        return 0 if self.publish(publication) else NO_MATCHING_SUBSCRIBERS

    def refusal(self, session: Session, publication: Publication) -> int:
        """Why a client's message may not go on, as a reason code; 0 if it may.  What is refused is counted."""
        topic = publication.topic
        if topic[0] == DOLLAR:
            code = closed_to_clients(topic)
            if code:
                return code
        if not session.may_write(topic):
            self.counters.dropped_acl += 1
            return NOT_AUTHORIZED
        limit = self.policy.message_size_limit
        if limit and len(publication.payload) > limit:
            self.counters.dropped_too_large += 1
            return QUOTA_EXCEEDED
        return 0

    def may_publish(self, session: Session, publication: Publication) -> bool:
        """Whether a client's message may go on; if not, it is counted.  A QoS 2 message is asked about twice."""
        return self.refusal(session, publication) == 0

    def publish(self, publication: Publication) -> bool:
        """Hand a message to everybody who subscribed to its topic.  Nobody is waited for.

        One that is too long for any MQTT packet is dropped and counted, wherever it comes from.

        Returns:
            Whether there was anybody, or anything expired before there could be.
        """
        log = self.log
        return (log is not None and log(publication)) or self.publish_here(publication)

    def publish_here(self, publication: Publication) -> bool:
        """As `publish`, to those who are connected here."""
        if publication.expires_at != 0.0 and publication.has_expired(self.now):
            self.counters.messages_expired += 1
            return True
        if len(publication.payload) + len(publication.topic) + 4 > REMAINING_LENGTH_MAX:
            self.counters.dropped_too_large += 1
            return True
        keeps = publication.retain and self.policy.retain_available
        if self.replaying.active:
            self.replaying.publishes(publication)
            if keeps and not publication.payload:
                # What it clears goes out first where it is still to come.
                found = self._hand_on(publication)
                self.retained.put(publication)
                return found
        if keeps:
            self.retained.put(publication)
        return self._hand_on(publication)

    def _hand_on(self, publication: Publication) -> bool:
        """Deliver to everybody who subscribed; whether there was anybody."""
        targets = self.slicing.receivers(self.trie, publication.topic)
        sole = targets.sole
        if sole is not None:
            sole.deliver(publication, targets.sole_granted, False)
            return True
        self.slicing.charge_deliveries(targets, 1)
        queued = self.books.last_position
        if targets.many is not None:
            for receiver, granted in targets.many.items():
                receiver.deliver(publication, granted, False)
        for part in targets.parts or ():
            for receiver, granted in part.pairs():
                receiver.deliver(publication, granted, False)
        self.slicing.charge_queued(self.books.last_position - queued)
        return targets.many is not None or targets.parts is not None

    def flush(self) -> None:
        """One send of everything owed to every peer that got something.  For the end of a turn."""
        self.round.flush()
        self.replaying.renew()
        self.slicing.renew()

    # --- time ----------------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Forget persistent sessions that nobody came back for in time, and what has expired."""
        self.endings.expire()
