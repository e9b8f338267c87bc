"""A listener's door takes over new certificates, or keeps those it has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from attrs import evolve
from support.certificates import Authority

from broker.config.model import Limits, Listener, Tls
from broker.links.door import Door
from broker.links.tls import TlsError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "/CN=localhost", host=True)
    return Listener(0, tls=Tls(certificate, key))


def test_certificates_are_read_again(listener: Listener) -> None:
    door = Door(listener, Limits())
    before = door.tls_context
    assert before is not None
    assert listener.tls is not None
    assert door.renew_tls(listener.tls)
    assert door.tls_context is not before


def test_certificates_that_cannot_be_used_leave_the_old_ones(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(listener, Limits())
    before = door.tls_context
    assert listener.tls is not None
    listener.tls.certfile.write_text("nonsense")
    assert not door.renew_tls(listener.tls)
    assert door.tls_context is before
    assert "Unable to load server certificate" in caplog.text
    assert "stay in use" in caplog.text
    with pytest.raises(TlsError):
        Door(listener, Limits())


def test_a_door_without_tls_has_no_context(listener: Listener) -> None:
    assert Door(evolve(listener, tls=None), Limits()).tls_context is None
