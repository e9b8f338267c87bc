"""What the doctor says of a feed as a whole."""

from __future__ import annotations

import pytest
from support.doctored import findings
from support.installed import feed_config, install


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_installed_feed_is_healthy_and_install_may_be_repeated(dsn: str, kind: str) -> None:
    config = feed_config(dsn, kind)
    assert findings(config)
    install(config)
    assert not findings(config)
    install(config)
    assert not findings(config)
