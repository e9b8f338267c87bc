"""Integers that `$SYS` and the metrics read.  Written by one addition each, never reset."""

from __future__ import annotations

from protocol.mqtt.window import FORBIDDEN, TOO_LARGE


class Counters:
    """Totals since start, in messages or bytes as the name says.

    `dropped_*` name the reason a message did not reach a receiver.
    """

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.packets_received = 0
        self.other_packets_sent = 0
        """All but PUBLISH."""
        self.publishes_received = 0
        self.publishes_sent = 0
        self.publish_bytes_received = 0
        self.publish_bytes_sent = 0
        self.dropped_outbox_full = 0
        self.dropped_queue_full = 0
        self.dropped_acl = 0
        self.dropped_too_large = 0
        self.messages_expired = 0
        """Their time, which a publisher of MQTT 5.0 or a route gave them, was over before they could be sent on."""
        self.dropped_inbound_full = 0
        """QoS 2 messages of clients that keep too many without PUBREL."""
        self.dropped_retained_full = 0
        """Messages that were handed on but not retained, because of max_retained_messages or max_retained_bytes."""
        self.subscriptions_refused = 0
        """Because of max_subscriptions."""
        self.reading_held = 0
        """How often a peer was not read from because it did not read its answers."""
        self.sockets_opened = 0
        self.sockets_closed = 0
        self.connections_accepted = 0
        self.connections_refused = 0
        self.refused: dict[str, int] = {}
        """By reason: a short name from the code, never from a peer."""
        self.protocol_errors = 0
        self.link_bugs = 0
        self.unexpected: dict[str, int] = {}
        """What `broker.core.barrier` caught, by reason: a kind of exception and a line of code."""
        self.sessions_expired = 0
        self.clients_maximum = 0

    def discarded(self, why: int) -> None:
        """Count a message that a client's queue lost, for a reason of `protocol.mqtt.window`."""
        if why == TOO_LARGE:
            self.dropped_too_large += 1
        elif why == FORBIDDEN:
            self.dropped_acl += 1
        else:
            self.messages_expired += 1

    def refuse(self, reason: str) -> None:
        """Count a CONNECT or a WebSocket handshake that is refused."""
        self.connections_refused += 1
        self.turn_away(reason)

    def turn_away(self, reason: str) -> None:
        """Count a connection that ends before it could ask for anything."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def packets_sent(self) -> int:
        """MQTT packets of all types."""
        return self.other_packets_sent + self.publishes_sent

    def publishes_dropped(self) -> int:
        """Those that a full queue or outbox cost, as Mosquitto counts; what rules forbid is not among them."""
        return self.dropped_outbox_full + self.dropped_queue_full
