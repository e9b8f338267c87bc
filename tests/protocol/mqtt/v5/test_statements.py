"""Every normative statement of MQTT 5.0 that binds a server is borne as a tag by some test."""

from __future__ import annotations

import re
from pathlib import Path

from support.statements5 import ALL, NOT_HERE, OF_CLIENTS

TESTS = Path(__file__).parents[3]


def test_every_statement_has_a_test() -> None:
    tagged: set[str] = set()
    for path in (*TESTS.rglob("test_*5*.py"), *(TESTS / "protocol/mqtt/v5").glob("test_*.py")):
        tagged.update(re.findall(r"MQTT-\d+\.\d+\.\d+-\d+", path.read_text()))
    missing = [tag for tag in ALL if tag not in tagged and tag not in OF_CLIENTS and tag not in NOT_HERE]
    assert not missing
    assert not set(OF_CLIENTS) & set(NOT_HERE)
    assert tagged & set(NOT_HERE) == set()


def test_tags_in_the_code_are_statements() -> None:
    """A tag in the code of 5.0 is one of the standard's."""
    root = TESTS.parent
    paths = [*(root / "protocol/mqtt/v5").glob("*.py"), *(root / "broker/links/mqtt").glob("*5.py")]
    for path in paths:
        found = set(re.findall(r"MQTT-\d+\.\d+\.\d+-\d+", path.read_text()))
        unknown = {tag for tag in found if tag not in ALL and not tag.startswith("MQTT-1.5.3-")}
        assert not unknown, f"{path.name}: {unknown}"
