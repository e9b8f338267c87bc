"""The tables of format 2, which knew no MQTT 5.0, and how they become those of format 3."""

from __future__ import annotations

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
    checksum INTEGER NOT NULL  -- CRC-32 of topic and payload
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
    disconnected_at REAL NOT NULL  -- infinity: it was here when it was saved
);
CREATE TABLE subscription (
    session INTEGER NOT NULL,
    topic_filter BLOB NOT NULL,
    qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 2),
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
    PRIMARY KEY (session, position)
) WITHOUT ROWID;
CREATE TABLE queued (
    session INTEGER NOT NULL,
    position INTEGER NOT NULL,
    message INTEGER NOT NULL,
    qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 2),
    retain INTEGER NOT NULL CHECK (retain IN (0, 1)),
    ids_before INTEGER NOT NULL CHECK (ids_before >= 0),  -- packet ids to pass over before it is sent
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
INSERT INTO state SELECT * FROM old_state;
INSERT INTO message SELECT *, x'', 0.0 FROM old_message;
INSERT INTO session SELECT *, 9e999, NULL, 0.0 FROM old_session;
INSERT INTO subscription SELECT * FROM old_subscription;
INSERT INTO inflight SELECT *, x'' FROM old_inflight;
INSERT INTO queued SELECT *, x'' FROM old_queued;
INSERT INTO inbound SELECT * FROM old_inbound;
INSERT INTO retained SELECT * FROM old_retained;
"""
"""From the tables of format 2, renamed, into those of format 3.  9e999 is infinity: no session expired by itself."""
