"""Keys that are called otherwise than their attributes."""

from __future__ import annotations

import attrs
import pytest

from broker.config.toml.reader import keys_of
from broker.config.toml.tables import CALCULATOR_TABLES, RENAMES


@pytest.mark.parametrize("cls", RENAMES, ids=lambda cls: cls.__name__)
def test_what_is_renamed_is_there_and_no_two_have_one_key(cls: type) -> None:
    names = {field.name for field in attrs.fields(cls)}
    renamed = RENAMES[cls]
    assert renamed.keys() <= names
    hidden = sum(key is None for key in renamed.values())
    assert len(keys_of(cls, RENAMES)) == len(names) - hidden


@pytest.mark.parametrize("cls", CALCULATOR_TABLES)
def test_a_calculator_takes_from_a_source_and_its_place_is_no_key(cls: type) -> None:
    keys = keys_of(cls, RENAMES)
    assert "from" in keys
    assert not keys & {"from_", "where"}
