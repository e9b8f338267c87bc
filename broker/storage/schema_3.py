"""The tables of format 3, where only topic and payload had a checksum, and how they become those of format 4."""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final

TABLES: Final = """
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    saved_at REAL NOT NULL  -- Unix time, as all times here
);
CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    topic BLOB NOT NULL,
    payload BLOB NOT NULL,
    qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 2),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    client_id BLOB NOT NULL,  -- of its publisher, as the next two
    user_name BLOB,
    listener_port INTEGER NOT NULL,
    checksum INTEGER NOT NULL,  -- CRC-32 of topic and payload
    properties BLOB NOT NULL,  -- of MQTT 5.0, those that are handed on
    expires_at REAL NOT NULL  -- 0: never
);
CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    client_id BLOB NOT NULL UNIQUE,
    user_name BLOB,
    listener_port INTEGER NOT NULL,
    mount_point BLOB NOT NULL,
    bridge INTEGER NOT NULL CHECK (bridge IN (0, 1)),
    last_packet_id INTEGER NOT NULL CHECK (last_packet_id BETWEEN 0 AND 65535),
    ids_after INTEGER NOT NULL CHECK (ids_after >= 0),  -- packet ids to pass over after what is queued
    disconnected_at REAL NOT NULL,  -- infinity: it was here when it was saved
    expiry_s REAL NOT NULL,  -- session expiry interval; infinity: it never does
    will INTEGER,  -- the message that waits for its delay
    will_due REAL NOT NULL
);
CREATE TABLE subscription (
    session INTEGER NOT NULL,
    topic_filter BLOB NOT NULL,
    granted INTEGER NOT NULL CHECK (granted >= 0),  -- QoS, or all that MQTT 5.0 adds, in one number
    PRIMARY KEY (session, topic_filter)
) WITHOUT ROWID;
CREATE TABLE inflight (
    session INTEGER NOT NULL,
    position INTEGER NOT NULL,
    packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 1 AND 65535),
    message INTEGER NOT NULL,
    qos INTEGER NOT NULL CHECK (qos IN (1, 2)),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 3),  -- awaits PUBACK, PUBREC, PUBCOMP
    subscription_ids BLOB NOT NULL,  -- as properties of MQTT 5.0
    PRIMARY KEY (session, position)
) WITHOUT ROWID;
CREATE TABLE queued (
    session INTEGER NOT NULL,
    position INTEGER NOT NULL,
    message INTEGER NOT NULL,
    qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 2),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    ids_before INTEGER NOT NULL CHECK (ids_before >= 0),  -- packet ids to pass over before it is sent
    subscription_ids BLOB NOT NULL,
    PRIMARY KEY (session, position)
) WITHOUT ROWID;
CREATE TABLE inbound (
    session INTEGER NOT NULL,
    packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 1 AND 65535),
    message INTEGER NOT NULL,
    PRIMARY KEY (session, packet_id)
) WITHOUT ROWID;
CREATE TABLE retained (
    position INTEGER PRIMARY KEY,
    message INTEGER NOT NULL UNIQUE
);
"""

MIGRATION: Final = """
INSERT INTO state SELECT one, saved_at, row_checksum(one, saved_at) FROM old_state;
INSERT INTO message SELECT number, topic, payload, qos, retain, client_id, user_name, listener_port, properties,
    expires_at, row_checksum(number, topic, payload, qos, retain, client_id, user_name, listener_port, properties,
    expires_at)
    FROM old_message;
INSERT INTO session SELECT *, row_checksum(number, client_id, user_name, listener_port, mount_point, bridge,
    last_packet_id, ids_after, disconnected_at, expiry_s, will, will_due) FROM old_session;
INSERT INTO subscription SELECT *, 0, row_checksum(session, topic_filter, granted, 0) FROM old_subscription;
INSERT INTO inflight SELECT *, row_checksum(session, position, packet_id, message, qos, retain, state,
    subscription_ids) FROM old_inflight;
INSERT INTO queued SELECT *, row_checksum(session, position, message, qos, retain, ids_before, subscription_ids)
    FROM old_queued;
INSERT INTO inbound SELECT *, row_checksum(session, packet_id, message) FROM old_inbound;
INSERT INTO retained SELECT *, row_checksum(position, message) FROM old_retained;
"""
"""From the tables of format 3, renamed, into those of format 4."""


def changed_message(connection: sqlite3.Connection) -> int | None:
    """The number of a message that the disk changed: it must not get a checksum by which it is right."""
    messages = connection.execute("SELECT number, topic, payload, checksum FROM message")
    for number, topic, payload, expected in messages:
        if checksum(topic, payload) != expected:
            return int(number)
    return None


def checksum(topic: bytes, payload: bytes) -> int:
    """CRC-32 of topic and payload, as files of format 3 hold it."""
    return zlib.crc32(payload, zlib.crc32(topic))
