"""What a member of a group was given, and what of it its client has."""

from __future__ import annotations

from support.attached import Attached

from broker.cluster.unfinished import owed_to, received_by
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.session import Session
from protocol.mqtt.outbound import Window


def member(inflight: int) -> tuple[Session, list[int]]:
    """A client that takes so much at a time, and was given messages 11, 12, 13 and 14; packet ids that were sent."""
    session = Attached(Engine(window=Window(inflight)), b"m").session
    for sequence, qos in ((11, 1), (12, 2), (13, 2), (14, 1)):
        publication = Publication(b"t", b"%d" % sequence, qos)
        publication.sequence = sequence
        assert session.hand_on(publication, qos, False)
    return session, [entry.packet_id for entry in session.outbound.inflight()]


def test_what_is_in_flight_and_what_waits_is_owed() -> None:
    session, ids = member(3)
    assert len(ids) == 3
    assert owed_to(session) == {11, 12, 13, 14}
    session.outbound.puback(ids[0])
    assert owed_to(session) == {12, 13, 14}


def test_of_qos_2_what_the_client_said_it_has_is_received() -> None:
    session, ids = member(10)
    assert received_by(session) == set()
    session.outbound.pubrec(ids[1])
    assert received_by(session) == {12}
    assert owed_to(session) == {11, 12, 13, 14}
    session.outbound.pubcomp(ids[1])
    assert received_by(session) == set()
