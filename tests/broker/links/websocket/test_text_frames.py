"""The frames of a publication, and of a run of them, are made once."""

from __future__ import annotations

from broker.core.publication import Publication
from broker.links.websocket.text_frames import frame_of, frames_of
from protocol.websocket import text_frame

PAYLOADS = [b"{}", b"", b"x" * 126, b"x" * 70_000]


def test_a_publications_frame_is_its_payload_and_made_once() -> None:
    for payload in PAYLOADS:
        publication = Publication(b"t", payload)
        frame = frame_of(publication)
        assert frame == text_frame(payload)
        assert frame_of(publication) is frame


def test_a_runs_frames_stand_in_its_order_and_are_made_once() -> None:
    run = [Publication(b"t", payload) for payload in PAYLOADS]
    frames = frames_of(run)
    assert frames == b"".join(text_frame(payload) for payload in PAYLOADS)
    assert frames_of(run) is frames
    assert frame_of(run[0]) == text_frame(PAYLOADS[0])
