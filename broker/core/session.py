"""What the broker knows of one client id, connected or not: subscriptions, QoS state, queue, will.

Invariant: `outbox` is set exactly while `link` is, and `outbound` is attached to it.
"""

from __future__ import annotations

import logging
import math

from mypy_extensions import mypyc_attr

from broker.core.access import Access
from broker.core.counters import Counters
from broker.core.limits import INBOUND_QOS2_BYTES_MAX, PLAIN_SUBSCRIPTIONS_MAX, SUBSCRIPTION_LEVELS
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.replay import Replay
from broker.core.replaying import Replaying
from broker.core.review import Review
from broker.core.saved_writer import SavedWriter
from broker.core.saving import Saving
from protocol.mqtt.books import Books
from protocol.mqtt.inbound import Inbound
from protocol.mqtt.message import PacketWriter
from protocol.mqtt.outbound import DROPPED, Outbound, Window
from protocol.mqtt.owed import Discarded
from protocol.mqtt.topics import SEPARATOR, has_wildcard
from protocol.mqtt.v5.subscribing import granted_to

logger = logging.getLogger("broker.core")


@mypyc_attr(allow_interpreted_subclasses=True)
class Link:
    """What a session knows of the connection that has it.

    `will_wanted` says whether the will goes out when the connection ends, `code` what a client of 5.0 is told then;
    0 is nothing.  `server_reference` is told with it.
    """

    will_wanted = True
    code = 0
    server_reference = b""

    def hear_out(self) -> int:
        """Take what its peer has sent by now, because another connection takes its place.

        Returns:
            0 if that was all, so many bytes if there may be more, or `shell.ASK_AGAIN`.
        """
        return 0

    def close(self, why: str) -> None:
        """End the connection; `why` completes a log line after the client's name."""
        raise NotImplementedError


class DeliveryRules:
    """How messages are handed on; shared by all sessions.

    Args:
        queue_qos0: keep QoS 0 messages, too, for a client that is away.
        upgrade_qos: leave with the subscription's QoS even where it is higher than the publication's.
    """

    def __init__(self, queue_qos0: bool = False, upgrade_qos: bool = False) -> None:
        self.queue_qos0 = queue_qos0
        self.upgrade_qos = upgrade_qos

    def adopt(self, other: DeliveryRules) -> bool:
        """Take over another configuration's; whether they are other rules."""
        differs = (self.queue_qos0, self.upgrade_qos) != (other.queue_qos0, other.upgrade_qos)
        self.queue_qos0 = other.queue_qos0
        self.upgrade_qos = other.upgrade_qos
        return differs


class Session(Receiver):
    """One client id's state (MQTT 3.1.1 §3.1.2.4).

    Args:
        client_id: as in CONNECT, or made up for a client that sent none.
        clean: the state ends with the connection.
        rules, window, counters, books, review: the broker's, shared.
    """

    # What most sessions never need, or are told at once, stands here, where it costs an interpreted one nothing.
    user_name: bytes | None = None
    access: Access | None = None
    mount_point = b""
    bridge = False
    listener_port = 0
    max_qos = 2
    link: Link | None = None
    outbox: Outbox | None = None
    inbound: Inbound | None = None
    will: Publication | None = None
    will_delay_s = 0
    will_expiry_s = -1
    """Message expiry interval of the will, from when it is published; -1 for none."""
    will_due = 0.0
    """When the will of a client that has gone is published; 0.0 if none waits."""
    disconnected_at = 0.0
    due = math.inf
    """When `Endings` looks at this session."""
    replaying: Replaying | None = None
    """Set where `replays` is."""
    replay_waits = False
    replay_turn = False
    _dropping = False
    _saved_writer: SavedWriter | None = None

    def __init__(
        self,
        client_id: bytes,
        clean: bool,
        rules: DeliveryRules,
        window: Window,
        counters: Counters,
        books: Books | None = None,
        review: Review | None = None,
    ) -> None:
        super().__init__(plain=not rules.queue_qos0 and not rules.upgrade_qos)
        self.client_id = client_id
        self.clean = clean
        self.rules = rules
        self.counters = counters
        self.review = Review() if review is None else review
        self.edition = self.review.edition
        """Of the rules that `access` is by."""
        self.outbound = Outbound(window, client_id, books)
        self.outbound.durable = not clean
        self.subscriptions: dict[bytes, int] = {}
        """By filter, what was granted; changed by `keep` and `leave` alone, but where it ends."""
        self._weight = 0
        self.expiry_s = 0.0 if clean else math.inf
        """The state outlives the connection so long, in seconds [MQTT-3.1.2-23]."""
        self.replays: dict[bytes, Replay] | None = None
        """By filter, what new subscriptions still have to get; see `Replaying`."""
        self.behind = False
        """What the log has is read for this session alone, up to where its node is; see `broker.cluster.behind`."""
        self.has_ended = False
        """There is no such session any more; whatever still finds it gives it nothing."""

    def keep(self, topic_filter: bytes, granted: int) -> None:
        """It has this subscription, or has it with another QoS."""
        if topic_filter not in self.subscriptions:
            self._weight += _weight_of(topic_filter)
        self.subscriptions[topic_filter] = granted

    def leave(self, topic_filter: bytes) -> None:
        """It has this subscription no more."""
        if self.subscriptions.pop(topic_filter, -1) >= 0:
            self._weight -= _weight_of(topic_filter)

    def weight_with(self, topic_filter: bytes) -> int:
        """How many subscriptions its own count for with one more; 0 where that is one of them."""
        return 0 if topic_filter in self.subscriptions else self._weight + _weight_of(topic_filter)

    def expect(self) -> Inbound:
        """Where QoS 2 messages wait for their PUBREL."""
        inbound = self.inbound
        if inbound is None:
            window = self.outbound.window
            limited = window.inflight_messages > 0 and window.queued_messages > 0
            messages_max = window.inflight_messages + window.queued_messages if limited else 0
            inbound = self.inbound = Inbound(self.outbound.books.store, messages_max, INBOUND_QOS2_BYTES_MAX)
        return inbound

    def attach(self, link: Link, outbox: Outbox, saving: Saving | None = None) -> None:
        """A connection takes this session; what was in flight and queued goes out now.

        Args:
            saving: where what is sent at QoS 2 has to be on disk before.
        """
        self.link = link
        self.outbox = outbox
        self.outbound.attach(outbox if saving is None else self._choose_writer(outbox, saving))

    def send_by(self, saving: Saving | None) -> None:
        """From now on what is sent at QoS 2 has to be on disk before, or no longer; nobody else holds anything."""
        writer = self._saved_writer
        if self.outbox is not None and (writer is None or writer.saving is not saving):
            self._saved_writer = None
            self.outbound.redirect(
                self.outbox if saving is None else self._choose_writer(self.outbox, saving)
            )

    def _choose_writer(self, outbox: Outbox, saving: Saving) -> PacketWriter:
        if self.clean:
            return outbox
        self._saved_writer = SavedWriter(outbox, saving, self.outbound)
        return self._saved_writer

    def detach(self, now: float) -> None:
        """The connection has ended; what the session keeps waits for the next one."""
        self.link = None
        self.outbox = None
        self.disconnected_at = now
        self.outbound.detach()
        if self._saved_writer is not None:
            self._saved_writer.abandon()
            self._saved_writer = None

    def discard(self) -> Discarded | None:
        """The session ends: nothing is kept for this client any more, and nothing comes; what is to be released."""
        self.has_ended = True
        if self.inbound is not None:
            self.inbound.discard()
        return self.outbound.discard()

    def identify(
        self,
        user_name: bytes | None,
        access: Access | None,
        mount_point: bytes,
        bridge: bool,
        max_qos: int,
        listener_port: int,
    ) -> None:
        """Who the client turned out to be at this connect, and what that lets it do; then `Engine.settle_plain`."""
        self.user_name = user_name
        self.set_access(access)
        self.edition = self.review.edition
        self.mount_point = mount_point
        self.bridge = bridge
        self.max_qos = max_qos
        self.listener_port = listener_port

    def set_access(self, access: Access | None) -> None:
        """What the client may do from now on; also with what is owed to it already."""
        self.access = access
        self.outbound.guarded = access is not None

    def takes_raw_packets(self) -> bool:
        """What `plain` should be by now; the engine sets it, since the trie counts the receivers that are not plain."""
        rules = self.rules
        sending = self.outbound.sending
        return not (
            rules.queue_qos0
            or rules.upgrade_qos
            or self.mount_point
            or self.bridge
            or len(self.subscriptions) > PLAIN_SUBSCRIPTIONS_MAX
            or self.replays is not None
            or self.behind
            or self.outbound.queued_qos_0 > 0  # from before a reload or restart, and they go first
            or (sending is not None and not sending.takes_any)
        )

    def may_read(self, topic: bytes) -> bool:
        """Whether this client may get messages of the topic, and the topic has a name below its mount point."""
        if self.has_ended:
            return False
        mount_point = self.mount_point
        if mount_point and len(topic) <= len(mount_point):
            return False
        if self.edition != self.review.edition:
            self.review.renew(self)
        access = self.access
        return access is None or access.may_read(topic)

    def may_write(self, topic: bytes) -> bool:
        """Whether this client may publish to the topic; its rules remember what they decided."""
        if self.edition != self.review.edition:
            self.review.renew(self)
        access = self.access
        return access is None or access.may_write(topic)

    def forward(self, packets: bytes, count: int, payload_bytes: int) -> None:
        outbox = self.outbox
        if outbox is None:
            return
        counters = self.counters
        size = len(packets)
        if outbox.pending_bytes + size > outbox.limit_bytes and not outbox.has_room(size, count):
            counters.dropped_outbox_full += count
            self._warn_dropping()
            return
        counters.publishes_sent += count
        counters.publish_bytes_sent += payload_bytes
        outbox.push(packets)

    def quality(self, publication: Publication, granted: int) -> int:
        """The QoS with which a message leaves [MQTT-3.8.4-6].

        Args:
            granted: by a single subscription, perhaps by a listener that grants more than the one it is at now.
        """
        qos = granted & 3
        if publication.qos < qos and not self.rules.upgrade_qos:
            qos = publication.qos
        return qos if qos <= self.max_qos else self.max_qos

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if (self.behind or self.replays is not None) and not retained:
            self._deliver_in_order(publication, granted)
        else:
            self.hand_on(publication, granted, retained)

    def _deliver_in_order(self, publication: Publication, granted: int) -> None:
        """A live message, while older ones are still to come."""
        replaying = self.replaying
        if self.behind and publication.sequence != 0:
            return
        if self.replays is not None and replaying is not None:
            replaying.deliver(self, publication, granted)
        else:
            self.hand_on(publication, granted, False)

    def hand_on(self, publication: Publication, granted: int, retained: bool) -> bool:
        """`deliver`, without a look at retained messages that wait; whether the client has it, or will get it."""
        ids = b""
        as_published = False
        if granted > 2:
            is_own = publication.client_id == self.client_id
            granted, as_published, ids = granted_to(granted, is_own)
            if granted < 0:
                return False
        if publication.expires_at != 0.0 and publication.has_expired(self.outbound.books.now()):
            return False  # [MQTT-3.3.2-5]
        qos = self.quality(publication, granted)
        if self.bridge and not retained and publication.client_id == self.client_id:
            return False  # as mosquitto: a bridge gets no echo of its own messages
        if self.mount_point:
            if len(publication.topic) <= len(self.mount_point):
                return False  # as mosquitto: `#` below `a/` is `a/#`, which matches `a`, too
            publication = self._unmounted(publication)
        retain = retained or (publication.retain and (self.bridge or as_published))
        if qos == 0:
            return self._deliver_qos_0(publication, retain, ids)
        if self.has_ended:
            return False
        if self.outbound.offer(publication, qos, retain, ids) == DROPPED:
            self.counters.dropped_queue_full += 1
            self._warn_dropping()
            return False
        self._dropping = False
        return True

    def _deliver_qos_0(self, publication: Publication, retain: bool, ids: bytes) -> bool:
        outbox = self.outbox
        if outbox is None and (not self.rules.queue_qos0 or self.clean or self.has_ended):
            return False
        if outbox is None or self.outbound.queued_qos_0 > 0:  # which go first [MQTT-4.6.0-6]
            if self.outbound.offer(publication, 0, retain, ids) == DROPPED:
                self.counters.dropped_queue_full += 1
                return False
            return True
        counters = self.counters
        sending = self.outbound.sending
        if sending is not None:
            packet = sending.packet(publication, retain, self.outbound.books.now_for(publication), ids)
            if not packet:
                counters.dropped_too_large += 1
                return False  # [MQTT-3.1.2-25]
        else:
            packet = publication.retained_packet() if retain else publication.packet()
        if not outbox.has_room(len(packet)):
            counters.dropped_outbox_full += 1
            self._warn_dropping()
            return False
        counters.publishes_sent += 1
        counters.publish_bytes_sent += len(publication.payload)
        outbox.push(packet)
        if sending is not None:
            sending.sent()
        return True

    def _unmounted(self, publication: Publication) -> Publication:
        """The publication under the name that this client knows: without its listener's mount point."""
        topic = publication.topic[len(self.mount_point) :]
        renamed = Publication(
            topic, publication.payload, publication.qos, publication.retain, publication.client_id
        )
        renamed.properties = publication.properties
        renamed.expires_at = publication.expires_at
        renamed.sequence = publication.sequence
        return renamed

    def _warn_dropping(self) -> None:
        """Once per spell of dropping, in Mosquitto's words."""
        if not self._dropping:
            self._dropping = True
            logger.warning(
                "Outgoing messages are being dropped for client %s.", self.client_id.decode(errors="replace")
            )


def _weight_of(topic_filter: bytes) -> int:
    """How often it counts in `max_subscriptions`: one without wildcards has one place, whatever it is called."""
    return 1 + topic_filter.count(SEPARATOR) // SUBSCRIPTION_LEVELS if has_wildcard(topic_filter) else 1
