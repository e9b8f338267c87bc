"""No acknowledgement leaves before a save that covers what it promises, and none waits longer."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peer import packets_in

from broker.core import saving as saving_module
from broker.core.engine import Engine
from broker.core.limits import STEPS_MAX
from broker.core.outbox import Outbox, nothing
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.saving import Redirecting, Saving
from broker.core.session import Link, Session
from protocol.mqtt.packets import Publish


def durable(engine: Engine, clean: bool = False) -> Session:
    session, _ = engine.open_session(b"clean" if clean else b"durable", clean)
    engine.identify(session, None, None)
    return session


@given(st.lists(st.sampled_from(["change", "promise", "save"]), max_size=40))
def test_what_is_promised_waits_for_just_the_save_that_covers_it(acts: list[str]) -> None:
    engine = Engine()
    session = durable(engine)
    saving = Saving(engine, engine.kept_changes())
    promised: list[tuple[int, Promise]] = []
    for act in acts:
        if act == "change":
            saving.mark()
            engine.note_change(session)
            promise = saving.promise(session, False, None)
            assert promise is not None
            promised.append((engine.kept_changes(), promise))
        elif act == "promise":
            promise = saving.promise_saved()
            assert (promise is None) is (engine.kept_changes() <= saving.saved)
            if promise is not None:
                promised.append((engine.kept_changes(), promise))
        else:
            saving.reached(engine.kept_changes())
        assert [promise.is_kept for _, promise in promised] == [at <= saving.saved for at, _ in promised]
    saving.give_up()
    assert all(promise.is_kept for _, promise in promised)
    assert saving.waiting() == 0


@pytest.mark.parametrize(
    ("clean", "always", "waits"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_a_packet_that_changed_nothing_waits_only_if_it_stands_for_an_earlier_one(
    clean: bool, always: bool, waits: bool
) -> None:
    engine = Engine()
    other = durable(engine)
    session = durable(engine, clean)
    saving = Saving(engine, engine.kept_changes())
    engine.note_change(other)
    saving.mark()
    assert (saving.promise(session, always, None) is not None) is waits


def test_whoever_saves_is_asked_once_for_all_that_wait() -> None:
    engine = Engine()
    session = durable(engine)
    saving = Saving(engine, engine.kept_changes())
    asked: list[int] = []
    saving.on_wanted = lambda: asked.append(saving.waiting())
    for _ in range(3):
        saving.mark()
        engine.note_change(session)
        saving.promise(session, False, None)
    assert (asked, saving.waiting()) == ([1], 3)
    saving.reached(engine.kept_changes())
    assert saving.waiting() == 0


def test_promises_to_clients_that_have_gone_do_not_pile_up() -> None:
    engine = Engine()
    session = durable(engine)
    saving = Saving(engine, engine.kept_changes())
    kept: list[Promise] = []
    for number in range(saving_module.SWEEP_AT + 10):
        engine.note_change(session)
        promise = saving.promise_saved()
        assert promise is not None
        if number % 1000 == 0:
            promise.on_kept = lambda: None
            kept.append(promise)
        else:
            assert promise.on_kept is nothing
    assert saving.waiting() <= len(kept) + 10
    saving.reached(engine.kept_changes())
    assert all(promise.is_kept for promise in kept)


SESSIONS: Final = 3 * STEPS_MAX


def redirected(engine: Engine, saving: Saving | None) -> None:
    """What `acknowledge` says is another, as after SIGHUP."""
    engine.saving = saving
    engine.slicing.renew()
    engine.slicing.begin(Redirecting(engine))


def told(sessions: list[Session], saving: Saving | None) -> int:
    writers = [session._saved_writer for session in sessions]
    return sum(
        writer is None if saving is None else writer is not None and writer.saving is saving
        for writer in writers
    )


def many_durable(engine: Engine) -> list[Session]:
    engine.slicing.on_waiting = nothing
    sessions = [engine.open_session(b"%d" % number, False)[0] for number in range(SESSIONS)]
    for session in sessions:
        engine.identify(session, None, None)
        outbox = Outbox(engine.round, 1 << 20, len)
        engine.attach(session, Link(), outbox)
    return sessions


def test_very_many_connections_are_told_some_in_each_turn() -> None:
    engine = Engine()
    sessions = many_durable(engine)
    saving = Saving(engine, engine.kept_changes())
    for wanted in (saving, None):
        redirected(engine, wanted)
        counts = [told(sessions, wanted)]
        while engine.slicing.waits():
            engine.slicing.turn()
            counts.append(told(sessions, wanted))
        assert counts[-1] == SESSIONS
        steps = [after - before for before, after in zip([0, *counts], counts, strict=False)]
        assert max(steps) <= STEPS_MAX
        if wanted is None:
            break
        saving.give_up()


def test_who_was_told_by_then_keeps_what_it_holds() -> None:
    """A client that comes meanwhile goes by the new rule at once, and has something to send when its turn comes."""
    engine = Engine()
    sessions = many_durable(engine)
    saving = Saving(engine, engine.kept_changes())
    redirected(engine, saving)
    session = next(one for one in sessions if not told([one], saving))
    engine.detach(session, False)
    sent: list[bytes] = []

    def send(data: bytes) -> int:
        sent.append(data)
        return len(data)

    outbox = Outbox(engine.round, 1 << 20, send)
    engine.attach(session, Link(), outbox)
    session.deliver(Publication(b"t", b"x", 2), 2, False)
    while engine.slicing.waits():
        engine.slicing.turn()
    session.deliver(Publication(b"t", b"y", 1), 1, False)
    engine.flush()
    assert sent == [], "what comes behind it does not overtake it"
    saving.reached(engine.kept_changes())
    engine.flush()
    assert [packet.payload for packet in packets_in(b"".join(sent)) if isinstance(packet, Publish)] == [
        b"x",
        b"y",
    ]


def test_who_is_not_told_yet_waits_for_nothing_that_nobody_saves() -> None:
    engine = Engine()
    sessions = many_durable(engine)
    saving = Saving(engine, engine.kept_changes())
    redirected(engine, saving)
    while engine.slicing.waits():
        engine.slicing.turn()
    saving.give_up()
    redirected(engine, None)
    session = next(one for one in sessions if not told([one], None))
    session.deliver(Publication(b"t", b"x", 2), 2, False)
    assert session.outbox is not None
    assert session.outbox.pending_bytes > 0


def test_what_changes_again_meanwhile_is_told_alone() -> None:
    engine = Engine()
    sessions = many_durable(engine)
    first, second = (Saving(engine, engine.kept_changes()) for _ in range(2))
    redirected(engine, first)
    first.give_up()
    redirected(engine, None)
    redirected(engine, second)
    while engine.slicing.waits():
        engine.slicing.turn()
    assert told(sessions, second) == SESSIONS
