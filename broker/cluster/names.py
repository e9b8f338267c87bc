"""Streams and subjects of one cluster.

shop_MSGS   shop.MSGS.ORIGIN.KIND.TOPIC    everything but QoS 0 of clients; ORIGIN c or f-FEED; KIND m, or r
                                           if it is retained
            shop.MSGS.q                    PUBRELs that have come, see `finished`
            shop.MSGS.x.MARK               a node is dead, see `fences`
            shop.MSGS.x.end                whoever put it there asks where the log ends, see `log_end`
shop_RET    shop.RET.TOPIC                 the last of each retained topic, which NATS copies from shop_MSGS
shop_SESS   shop.SESS.KEY                  records of one value, which may end by themselves: feed.NAME and other
                                           leases, c.CLIENT, n.NODE, w.NODE.CLIENT (a will)
(no stream) shop.LIVE.NODE                 QoS 0 between nodes
(no stream) shop.ASK.NODE, shop.GROUPS.NODE   one node asks another for a client; tells its groups
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from broker.config.cluster import ClusterConfig
from protocol.nats import subjects
from protocol.nats.jetstream import NANOSECONDS

DUPLICATE_WINDOW_S = 120.0
MARKERS_S = 60.0
"""For how long a deletion by time is to be seen; the least that a server takes is a second."""

KNOWN_MAX: Final = 4096
KNOWN_BYTES: Final = 256
"""Topics whose subjects are remembered, and how long they may be."""

CLIENTS = b"c"
PLAIN = b"m"
RETAINED = b"r"


class Names:
    """Of one cluster."""

    def __init__(self, name: str) -> None:
        self.messages = f"{name}_MSGS"
        self.retained = f"{name}_RET"
        self.sessions = f"{name}_SESS"
        self._prefix = name.encode()
        self.messages_prefix = self._prefix + b".MSGS."
        self.finished = self.messages_prefix + b"q"
        self._fences = self.messages_prefix + b"x."
        self.end = self._fences + b"end"
        self._plain_prefix = self.messages_prefix + CLIENTS + b"." + PLAIN + b"."
        self.retained_prefix = self._prefix + b".RET."
        self._known: dict[bytes, bytes] = {}
        """Subjects of topics that clients have published to lately."""

    def message(self, origin: bytes, retain: bool, topic: bytes) -> bytes:
        """The subject of a message: whose it is, whether it is retained, and its topic."""
        if not retain and origin == CLIENTS:
            known = self._known.get(topic)
            if known is None:
                known = self._plain_prefix + subjects.subject_of(topic)
                if len(self._known) >= KNOWN_MAX:
                    self._known.clear()
                if len(topic) <= KNOWN_BYTES:
                    self._known[topic] = known
            return known
        kind = RETAINED if retain else PLAIN
        return b"%b%b.%b.%b" % (self.messages_prefix, origin, kind, subjects.subject_of(topic))

    def fence(self, mark: bytes) -> bytes:
        """The subject of a dead node's fence."""
        return self._fences + mark

    def is_of_nodes(self, subject: bytes) -> bool:
        """Whether it is for nodes alone, and no publication."""
        return subject == self.finished or subject.startswith(self._fences)

    def is_long(self, subject: bytes) -> bool:
        """Whether the topic of a message's subject has to travel beside it."""
        return subjects.is_long(self.topic_part(subject)[1])

    def of_origin(self, origin: bytes) -> bytes:
        """All messages of one origin."""
        return self.messages_prefix + origin + b".>"

    def all_retained(self) -> bytes:
        """All retained messages, of whatever origin."""
        return self.messages_prefix + b"*." + RETAINED + b".>"

    def copying(self) -> dict[str, str]:
        """Where NATS copies a retained message to."""
        return {"src": self.all_retained().decode(), "dest": (self.retained_prefix + b">").decode()}

    def topic_part(self, subject: bytes) -> tuple[bytes, bytes]:
        """(kind, the topic's subject) of a message's subject in the log, or in the stream of retained ones."""
        plain = self._plain_prefix
        if subject.startswith(plain):  # most are
            return PLAIN, subject[len(plain) :]
        if subject.startswith(self.retained_prefix):
            return RETAINED, subject[len(self.retained_prefix) :]
        parts = subject[len(self.messages_prefix) :].split(b".", 2)
        return (parts[1], parts[2]) if len(parts) == 3 else (b"", b"")

    def origin_in(self, subject: bytes) -> bytes:
        """Whose a message of the log is, by its subject."""
        start = len(self.messages_prefix)
        return subject[start : subject.find(b".", start)]

    def record(self, key: bytes) -> bytes:
        """The subject of a lease, or of another record of one value."""
        return self._prefix + b".SESS." + key

    def client(self, client_id: bytes) -> bytes:
        """The key of what is known of a client id; an id may be long, and say anything."""
        return b"c." + hashlib.sha256(client_id).hexdigest()[:32].encode()

    def node(self, mark: bytes) -> bytes:
        """The key of a start of a node."""
        return b"n." + mark

    def will(self, mark: bytes, client_id: bytes) -> bytes:
        """The key of the will of a client that is connected to a node."""
        return b"w.%b.%b" % (mark, self.client(client_id)[2:])

    def ask(self, mark: bytes) -> bytes:
        """The subject on which one node asks another for a client."""
        return b"%b.ASK.%b" % (self._prefix, mark)

    def groups(self, mark: bytes | str) -> bytes:
        """The subject on which a node says which groups have members there."""
        return b"%b.GROUPS.%b" % (self._prefix, mark if isinstance(mark, bytes) else mark.encode())

    def live(self, mark: bytes) -> bytes:
        """The subject of a node's QoS 0 messages to the others."""
        return self._prefix + b".LIVE." + mark


def origin_of(feed: str) -> bytes:
    """A feed's place in subjects."""
    return b"f-" + feed.encode()


def streams(config: ClusterConfig) -> list[dict[str, Any]]:
    """What the streams have to be, in the order in which they are made."""
    name, names = config.name, Names(config.name)
    shared = {"storage": "file", "num_replicas": config.replicas, "allow_direct": True, "discard": "old"}
    return [
        {
            **shared,
            "name": names.messages,
            "subjects": [f"{name}.MSGS.>"],
            "allow_atomic": True,
            "max_age": int(config.keep_s * NANOSECONDS),
            "max_bytes": config.keep_bytes,
            "duplicate_window": int(min(DUPLICATE_WINDOW_S, config.keep_s) * NANOSECONDS),
        },
        {
            **shared,
            "name": names.retained,
            "max_msgs_per_subject": 1,
            "sources": [
                {
                    "name": names.messages,
                    "subject_transforms": [names.copying()],
                }
            ],
        },
        {
            **shared,
            "name": names.sessions,
            "subjects": [f"{name}.SESS.>"],
            "max_msgs_per_subject": 1,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": int(MARKERS_S * NANOSECONDS),
            "allow_rollup_hdrs": True,
        },
    ]
