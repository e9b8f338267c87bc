"""Keys of session tickets are made anew each day, whatever becomes of the certificate's files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve
from support.certificates import Authority

from broker.config.model import Limits, Listener, Tls
from broker.core.limits import TICKET_KEYS_S
from broker.links.listening.door import Door
from broker.links.listening.tickets import renew_ticket_keys

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "/CN=localhost", host=True)
    return Listener(0, tls=Tls(certificate, key))


@needs_openssl
async def test_ticket_keys_are_new_each_day(
    listener: Listener, autojump_clock: trio.testing.MockClock
) -> None:
    door = Door(listener, Limits())
    before = door.tls_context
    with trio.move_on_after(TICKET_KEYS_S - 1):
        await renew_ticket_keys([door, Door(evolve(listener, tls=None), Limits())])
    assert door.tls_context is before
    with trio.move_on_after(TICKET_KEYS_S + 1):
        await renew_ticket_keys([door])
    assert door.tls_context is not before


@needs_openssl
async def test_files_that_can_not_be_used_leave_the_old_keys_and_are_looked_at_again(
    listener: Listener, autojump_clock: trio.testing.MockClock
) -> None:
    door = Door(listener, Limits())
    before = door.tls_context
    assert listener.tls is not None
    certificate = listener.tls.certfile.read_text()
    listener.tls.certfile.write_text("nonsense")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_ticket_keys, [door])
        await trio.sleep(TICKET_KEYS_S + 1)
        assert door.tls_context is before
        listener.tls.certfile.write_text(certificate)
        await trio.sleep(TICKET_KEYS_S)
        assert door.tls_context is not before
        nursery.cancel_scope.cancel()
