"""A snapshot as lines of JSON: what is written is read back as it was."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from broker.core.publication import Publication
from broker.storage.json_lines import lines
from broker.storage.json_reading import snapshot_of
from broker.storage.records import SessionRecord, Snapshot
from protocol.mqtt.outbound import InFlight, Queued

some_bytes = st.one_of(st.text(max_size=5).map(str.encode), st.binary(max_size=5))
names = st.sampled_from([b"a", b"b/c", "ü/\U0001f600".encode()])
times = st.sampled_from([0.0, 1_800_000_000.0, 1_900_000_000.25])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    saved = Snapshot(draw(times), 0.0)
    messages = [
        Publication(
            draw(names), draw(some_bytes), draw(st.integers(0, 2)), draw(st.booleans()), draw(some_bytes)
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    for message in messages:
        message.properties = draw(st.sampled_from([b"", b"\x26\x00\x01k\x00\x01v"]))
        message.expires_at = draw(times)
        message.user_name = draw(st.one_of(st.none(), some_bytes))
    any_message = st.sampled_from(messages)
    ids = st.sampled_from([b"", b"\x0b\x07"])
    for number in range(draw(st.integers(0, 3))):
        inflight = []
        for packet_id in range(1, draw(st.integers(1, 4))):
            qos, state = draw(st.sampled_from([(1, 1), (2, 2), (2, 3)]))
            inflight.append(
                InFlight(packet_id, draw(any_message), qos, draw(st.booleans()), state, draw(ids))
            )
        queued = [
            Queued(
                draw(any_message),
                draw(st.integers(0, 2)),
                draw(st.booleans()),
                draw(st.integers(0, 3)),
                draw(ids),
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        record = SessionRecord(
            client_id=draw(some_bytes) + b"%d" % number,
            user_name=draw(st.one_of(st.none(), some_bytes)),
            listener_port=draw(st.integers(0, 65_535)),
            mount_point=draw(st.sampled_from([b"", b"site/"])),
            bridge=draw(st.booleans()),
            last_packet_id=draw(st.integers(0, 65_535)),
            ids_after=draw(st.integers(0, 3)),
            disconnected_at=draw(st.sampled_from([math.inf, 1_800_000_000.5])),
            subscriptions=draw(st.dictionaries(names, st.sampled_from([0, 1, 2, 1 << 32 | 7 << 4 | 9]))),
            inflight=inflight,
            states=bytes(entry.state for entry in inflight),
            queued=queued,
            inbound=[(1, draw(any_message))] if draw(st.booleans()) else [],
            expiry_s=draw(st.sampled_from([math.inf, 3600.0])),
            will=draw(any_message) if draw(st.booleans()) else None,
        )
        record.will_due = 1_800_000_001.0 if record.will is not None else 0.0
        record.replays = set(list(record.subscriptions)[:1])
        saved.sessions.append(record)
    saved.retained = [one for one in {one.topic: one for one in messages}.values() if draw(st.booleans())]
    return saved


@given(snapshots())
def test_what_is_exported_is_imported_as_it_was(saved: Snapshot) -> None:
    exported = list(lines(saved))
    again = snapshot_of(exported)
    assert list(lines(again)) == exported
    for line in exported:
        json.loads(line)
