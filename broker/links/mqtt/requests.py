"""SUBSCRIBE and UNSUBSCRIBE, of all versions: thousands of filters in one packet are acted on by slices.

A request takes steps of its link until it is through or they are used up; then the link goes on with it in a later
turn, and reads nothing else before.  Only when the last filter was looked at is it answered, and replays follow.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from broker.core.log_levels import is_logged
from broker.core.session import Session
from broker.core.shared import is_misnamed, lacks_filter
from broker.links.mqtt.answers import answer_packet
from broker.links.words import SUBSCRIBE, UNSUBSCRIBE, printable
from protocol.mqtt import codec
from protocol.mqtt.codec import SUBACK, UNSUBACK, encode_ack
from protocol.mqtt.errors import ProtocolViolation
from protocol.mqtt.packets import SUBSCRIBE_FAILURE, Subscribe, Unsubscribe
from protocol.mqtt.reserved import CHANNEL_PREFIX, SHARE_PREFIX
from protocol.mqtt.topics import DOLLAR, MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL, check_topic_filter
from protocol.mqtt.v5.codec import encode_suback
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.mqtt.v5.subscribing import capped, subscription

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink

logger = logging.getLogger("broker.links")

FILTER_STEPS: Final = 16
"""What a filter counts for; a small packet is one step."""

REPLAY_STEPS: Final = 8
"""What the beginning of a replay counts for."""

RETAIN_HANDLING_SHIFT: Final = 4


class Request:
    """One packet of filters, and how far it has come."""

    def __init__(self, session: Session, packet_id: int) -> None:
        self.session = session
        self.packet_id = packet_id
        self.position = 0

    def go_on(self, link: MqttLink) -> bool:
        """Act on as much of it as the link has steps for; whether it is through.

        Raises:
            ProtocolError: a filter that ends the connection.
        """
        raise NotImplementedError


class SubscribeRequest(Request):
    """SUBSCRIBE."""

    def __init__(self, session: Session, packet: Subscribe) -> None:
        super().__init__(session, packet.packet_id)
        self.filters = packet.filters
        self.codes = bytearray()
        self.replays: list[tuple[bytes, int]] = []
        self.replayed = 0
        ids = packet.properties.subscription_ids
        self.subscription_id = ids[0] if ids else 0

    def go_on(self, link: MqttLink) -> bool:
        position = self.position
        count = len(self.filters)
        while position < count:
            if link.steps <= 0:
                return False
            link.steps -= FILTER_STEPS
            topic_filter, options = self.filters[position]
            position += 1
            self.position = position
            self._subscribe(link, topic_filter, options)
            if position == count:
                self._answer(link)
        return self._replay(link)

    def _replay(self, link: MqttLink) -> bool:
        """What is retained for its filters, as far as there are steps; whether that was all."""
        session = self.session
        while self.replayed < len(self.replays):
            if link.steps <= 0:
                return False
            link.steps -= REPLAY_STEPS
            mounted, granted = self.replays[self.replayed]
            self.replayed += 1
            if mounted in session.subscriptions:
                link.engine.replay(session, mounted, granted)
        return True

    def _subscribe(self, link: MqttLink, topic_filter: bytes, options: int) -> None:
        session = self.session
        if session.level == 5:
            code = self._subscribe_5(link, topic_filter, options)
        else:
            if topic_filter[0] == DOLLAR and lacks_filter(topic_filter):
                raise ProtocolViolation("a shared subscription without a filter")
            mounted = mount(session.mount_point, topic_filter) if session.mount_point else topic_filter
            if not mounted:
                code = capped(options, session.max_qos)
            elif (code := link.engine.subscribe_session(session, mounted, options)) <= 2:
                self.replays.append((mounted, code))
            else:
                code = SUBSCRIBE_FAILURE
        self.codes.append(code)
        if is_logged(logger, SUBSCRIBE):
            logger.log(SUBSCRIBE, "%s %d %s", printable(session.client_id), code, printable(topic_filter))

    def _subscribe_5(self, link: MqttLink, topic_filter: bytes, options: int) -> int:
        if is_misnamed(topic_filter):
            return ReasonCode.TOPIC_FILTER_INVALID  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        session = self.session
        mounted = mount(session.mount_point, topic_filter)
        if not mounted:
            return capped(options & 3, session.max_qos)
        is_known = mounted in session.subscriptions
        wanted = subscription(options & 15, self.subscription_id)
        code = link.engine.subscribe_session(session, mounted, wanted)
        if code > 2:
            return ReasonCode.NOT_AUTHORIZED if code == SUBSCRIBE_FAILURE else code
        handling = options >> RETAIN_HANDLING_SHIFT
        if handling == 0 or (handling == 1 and not is_known):
            # [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
            self.replays.append((mounted, session.subscriptions[mounted]))
        return code

    def _answer(self, link: MqttLink) -> None:
        # [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.8.4-6]
        session = self.session
        if session.level == 5:
            _answer_each(link, session, SUBACK, self.packet_id, bytes(self.codes))
        else:
            answer_packet(link, session, codec.encode_suback(self.packet_id, bytes(self.codes)))


class UnsubscribeRequest(Request):
    """UNSUBSCRIBE."""

    def __init__(self, session: Session, packet: Unsubscribe) -> None:
        super().__init__(session, packet.packet_id)
        self.filters = packet.filters
        self.codes = bytearray()

    def go_on(self, link: MqttLink) -> bool:
        session = self.session
        tells = is_logged(logger, UNSUBSCRIBE)
        while self.position < len(self.filters):
            if link.steps <= 0:
                return False
            link.steps -= FILTER_STEPS
            topic_filter = self.filters[self.position]
            self.position += 1
            is_known = False
            if session.level != 5 or not is_misnamed(topic_filter):
                mounted = mount(session.mount_point, topic_filter)
                is_known = mounted in session.subscriptions
                link.engine.unsubscribe(session, mounted)
            self.codes.append(0 if is_known else ReasonCode.NO_SUBSCRIPTION_EXISTED)
            if tells:
                logger.log(UNSUBSCRIBE, "%s %s", printable(session.client_id), printable(topic_filter))
        if session.level == 5:
            # [MQTT-3.10.4-5] [MQTT-3.11.3-1]
            _answer_each(link, session, UNSUBACK, self.packet_id, bytes(self.codes))
        else:
            answer_packet(link, session, encode_ack(UNSUBACK, self.packet_id))  # [MQTT-3.10.4-5]
        return True


def _answer_each(link: MqttLink, session: Session, first_byte: int, packet_id: int, codes: bytes) -> None:
    packet = encode_suback(first_byte, packet_id, codes)
    sending = session.outbound.sending
    if sending is not None and 0 < sending.packet_max < len(packet):
        reason = f"an answer of {len(packet)} bytes; the client takes {sending.packet_max}"
        raise ProtocolViolation(reason, "MQTT-3.1.2-24", ReasonCode.PACKET_TOO_LARGE)
    answer_packet(link, session, packet)


def mount(mount_point: bytes, topic_filter: bytes) -> bytes:
    """The filter inside a listener's mount point; a shared subscription keeps its `$share/GROUP` in front.

    As mosquitto, a mount point without a slash at its end makes `site#` of `#`, which is granted, and no topic is
    called so.  That is b"" here, and nobody keeps it.

    Raises:
        MalformedPacket: it is too long, or has too many levels, with the mount point.
    """
    if not mount_point or topic_filter.startswith(CHANNEL_PREFIX):
        return topic_filter
    if topic_filter.startswith(SHARE_PREFIX):
        parts = topic_filter.split(b"/", 2)
        if len(parts) == 3:
            return _mounted(SHARE_PREFIX + parts[1] + b"/", mount_point, parts[2])
    return _mounted(b"", mount_point, topic_filter)


def _mounted(group: bytes, mount_point: bytes, topic_filter: bytes) -> bytes:
    if not mount_point.endswith(SEPARATOR) and topic_filter.startswith((SINGLE_LEVEL, MULTI_LEVEL)):
        return b""
    whole = group + mount_point + topic_filter
    check_topic_filter(whole)
    return whole
