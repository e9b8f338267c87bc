"""Every limit that is ours rather than mosquitto.conf's: a name with its unit, a default, a reason.

Those that a configuration sets stand in `broker.config.model.Limits`.
"""

from __future__ import annotations

from typing import Final

MATCH_CACHE_BYTES_MAX: Final = 32 * 1024 * 1024
"""What topics and their receivers may take that are remembered.  What does not fit is found anew each time."""

SEND_BYTES_MAX: Final = 256 * 1024
"""What one send offers the kernel; loopback takes about this much at once, so more would only be copied twice."""

ANSWERS_OWED_BYTES_MAX: Final = 32 * 1024
"""Of answers to a peer's own packets (PUBACK, PINGRESP, ...), what it may leave unread beside what the kernel holds;
above it nothing more is read from the peer.  8 000 acknowledgements: no client that reads gets there."""

RECEIVE_BYTES_MAX: Final = 64 * 1024
"""What one receive takes: one publisher's share of a poll round."""

REPLAY_PENDING_BYTES_MAX: Final = 128 * 1024
"""Retained messages are replayed to a new subscription only while it is owed less than this."""

REPLAY_EARLY_TOPICS_MAX: Final = 10_000
"""Topics of one subscription whose retained message went out ahead of its turn, because a live one came; further live
messages on topics still to come are dropped and counted, as from a full queue."""

REPLAY_STRICT_FILTERS_MAX: Final = 64
"""Subscriptions of one session that get every retained message however many live ones come meanwhile.  Those above it,
while they wait, get none that a live message has followed, so that their cost does not grow with their number."""

REPLAY_STEPS_MAX: Final = 1024
"""Retained names looked at in one turn for all subscribers together; 4 ms, uncompiled."""

STEPS_MAX: Final = 1024
"""What peers may have done at their request in one turn, before it waits and others have theirs: as many small packets,
or 64 filters; some ms, uncompiled."""

PLAIN_SUBSCRIPTIONS_MAX: Final = 1024
"""A client with more subscriptions takes no raw packets, since whether it does is noted with each of them."""

CONNECT_BYTES_MAX: Final = 5 + 10 + 5 * (2 + 65_535)
"""The longest CONNECT: its header and five strings.  One that says it is longer is refused by its first bytes."""

PRE_CONNECT_BYTES_MAX: Final = 64 * 1024
"""Bytes held for a peer that is being authenticated, beside its CONNECT."""

CONNECT_TIMEOUT_S: Final = 30.0
"""From accept to a complete CONNECT.  Mosquitto closes such a socket after its default keep-alive, too."""

INBOUND_QOS2_BYTES_MAX: Final = 16 * 1024 * 1024
"""Payloads of one session that wait for their PUBREL, beside one of any length.  How many messages may wait is
max_inflight_messages and max_queued_messages together: what the client may be owed at QoS 2, it may owe."""

LOCAL_QUEUE_MESSAGES_MAX: Final = 10_000
"""Messages waiting for an in-process subscriber; above it the oldest are dropped and counted."""

FORGETTING_MAX: Final = 50_000
"""CONNECTs that wait until the session before is gone from the disk, those whose peers have left among them; more are
refused.  So many wait only where the disk takes nothing."""

FORGETTING_OF_CLIENT_MAX: Final = 16
"""The same of one client id, so that one who comes again and again leaves room for others."""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long a connection that is being closed may take what it is still owed."""

ACCEPTS_PER_WAKE_MAX: Final = 64
"""Connections taken from a listener before others have their turn."""

TICKET_KEYS_S: Final = 86_400.0
"""How long the keys of TLS session tickets are used; then certificates are read anew, too."""

ARRIVALS_TURN_S: Final = 0.001
"""What the handshakes of a round may take together, before those who are connected have their turn."""

ARRIVALS_PER_POLL: Final = 32
"""Peers in a handshake looked at in a round at most."""

ARRIVALS_TASKS_MAX: Final = 16
"""Tasks of WebSocket handshakes that begin in one go: each takes some tenths of a millisecond, and all of them run
before the pump has its turn again."""

SLOW_KEY_BYTES: Final = 320
"""A longer public key has a private one whose signature takes a thread: RSA 2048 has 294 and takes 1 ms, RSA 4096
550 and 7 ms."""

HANDSHAKE_THREADS_MAX: Final = 1
"""Signatures with slow keys made at a time."""

SWEEP_INTERVAL_S: Final = 1.0
"""How often silent connections are looked for."""

SWEEP_LINKS_MAX: Final = 1_000
"""Connections looked at in one go."""

DEPARTED_MAX: Final = 256
DEPARTED_SHARE_MAX: Final = 32
"""Clients, of all addresses and of one, that left while their passwords waited to be checked, and whose packets or will
count all the same, if they are let in; each holds `PRE_CONNECT_BYTES_MAX` at most.  Others are forgotten."""

PASSWORD_THREADS_MAX: Final = 2
"""Passwords with slow hashes checked at a time; the others wait, so a flood of logins can't take every core."""

RETAINED_LEVELS_FREE: Final = 4
"""So many levels of its own has a retained message's topic, on average, without counting for more than its bytes."""

RETAINED_LEVEL_BYTES: Final = 330
"""What each level above that counts for in `max_retained_bytes`: a place in the tree, with its dictionary."""

SUBSCRIPTION_LEVELS: Final = 8
"""A filter with wildcards counts once for each so many levels in `max_subscriptions`: each is a place in the tree."""

RETAINED_CHANGES_MAX: Final = 1024
"""Topics remembered as changed since the last save; where there are more of them, and more than have a retained
message, the next save looks at all."""
