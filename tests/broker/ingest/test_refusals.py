"""What an error of Postgres says about a row, by its code."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from broker.ingest.refusals import Again, is_for_people, is_refusal, reason_of

LONE = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")


def error(state: str) -> psycopg.Error:
    return errors.lookup(state)("words\nmore words")


@pytest.mark.parametrize(
    "state",
    [
        "22P02",  # invalid_text_representation
        "22003",  # numeric_value_out_of_range
        "23502",  # not_null_violation
        "23505",  # unique_violation
        "23514",  # check_violation
        "P0001",  # raise_exception
        "21000",  # cardinality_violation
        "XX000",  # internal_error
        "54000",  # program_limit_exceeded
    ],
)
def test_a_row_is_to_blame(state: str) -> None:
    assert is_refusal(error(state))
    assert not is_for_people(error(state))


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014"])
def test_the_same_rows_may_be_tried_again(state: str) -> None:
    with pytest.raises(Again) as again:
        is_refusal(error(state))
    assert str(again.value) == "words"


@pytest.mark.parametrize(
    ("state", "is_people_s"),
    [
        ("42P01", True),  # undefined_table
        ("42703", True),  # undefined_column
        ("42501", True),  # insufficient_privilege
        ("3D000", True),  # invalid_catalog_name
        ("0A000", True),  # feature_not_supported
        ("08006", False),  # connection_failure
        ("25006", False),  # read_only_sql_transaction
        ("28P01", False),  # invalid_password
        ("53100", False),  # disk_full
        ("57P01", False),  # admin_shutdown
        ("58030", False),  # io_error
        ("XX001", False),  # data_corrupted
        ("XX002", False),  # index_corrupted
    ],
)
def test_the_database_is_to_blame(state: str, is_people_s: bool) -> None:
    assert not is_refusal(error(state))
    assert is_for_people(error(state)) == is_people_s


def test_what_does_not_even_reach_the_server_is_a_row_s_fault() -> None:
    assert is_refusal(LONE)
    assert is_refusal(psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"))
    assert not is_refusal(psycopg.OperationalError("connection lost"))
    assert not is_for_people(psycopg.OperationalError("connection lost"))
    assert not is_for_people(OSError())


def test_why_in_one_line() -> None:
    assert reason_of(LONE) == "the payload has half of a character (a lone surrogate)"
    assert reason_of(psycopg.DataError("no\nHINT: none")) == "no"
