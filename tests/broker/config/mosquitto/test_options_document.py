"""docs/mosquitto-conf.md is what the table says, each option once and under what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.mosquitto.option import Role
from broker.config.mosquitto.options import OPTIONS
from broker.config.mosquitto.options_document import document


def test_the_page_is_in_step_with_the_table() -> None:
    path = Path(__file__).parents[4] / "docs" / "mosquitto-conf.md"
    assert path.read_text() == document(), (
        "run: python -m broker.config.mosquitto.options_document > docs/mosquitto-conf.md"
    )


def rows() -> dict[str, str]:
    """By option, each with the title of its section in front."""
    found: dict[str, str] = {}
    title = ""
    for line in document().splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("| `"):
            name = line.split("`")[1]
            assert name not in found, "it stands twice"
            found[name] = f"{title}: {line}"
    return found


def test_every_option_stands_once_where_its_fate_is_told() -> None:
    found = rows()
    assert found.keys() == OPTIONS.keys()
    for name, option in OPTIONS.items():
        assert (option.role is Role.WITHOUT_EFFECT) == found[name].startswith("Accepted, without effect"), (
            name
        )
        assert (option.role is Role.REFUSED) == found[name].startswith(("Refused", "Inside a refused")), name
        assert option.meaning.replace("  ", " ") in found[name]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("max_qos", "| `max_qos` ↻ | whole number, 0 to 2 | `2` |"),
        ("acl_file", "| `acl_file` ↻ | text | |"),
        ("persistence", "| `persistence` | true or false | `false` |"),
        ("clientid_prefixes", "| `clientid_prefixes` ↻ | text | |"),
        ("log_dest", "| `log_dest` ↻ | stderr, stdout, file, syslog, topic, dlt or none | `stderr` |"),
    ],
)
def test_a_row_says_kind_range_default_and_whether_it_is_read_again(name: str, row: str) -> None:
    assert row in rows()[name]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("accept_protocol_versions", "Below a `listener` only, not for the default one."),
        ("mount_point", "Below a `listener` only."),
        ("max_connections", ""),
        ("sys_interval", ""),
    ],
)
def test_where_an_option_may_stand_is_said_if_it_is_not_anywhere(name: str, where: str) -> None:
    row = rows()[name]
    assert where in row
    assert bool(where) == ("Below a `listener`" in row)
