"""No acknowledgement leaves before a save that covers what it promises, and none waits longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import saving as saving_module
from broker.core.engine import Engine
from broker.core.outbox import nothing
from broker.core.promise import Promise
from broker.core.saving import Saving
from broker.core.session import Session


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
