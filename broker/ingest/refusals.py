"""What an error of Postgres says about a row: refused for good, to be tried again, or about something else.  Pure."""

from __future__ import annotations

from typing import Final

import psycopg

from broker.feed.driver.failures import first_line, is_about_values

RETRIED: Final = ("40", "55")
"""Classes of SQLSTATE: the transaction was rolled back for others' sake, or a lock was not to be had."""
CANCELLED: Final = "57014"
"""Such as by statement_timeout."""
RAISE_FUNCTION: Final = "exec_stmt_raise"
"""Where PL/pgSQL does what RAISE says, whatever code it gives."""
OURS: Final = ("08", "0A", "0B", "25", "26", "28", "2D", "3D", "3F", "42", "53", "57", "58", "72", "F0")
"""The statement does not fit the database (any more), or the server is in trouble, whatever the rows are."""
FOR_PEOPLE: Final = ("0A", "3D", "3F", "42")
"""Of those, what only somebody who changes the database can mend."""
OURS_CODES: Final = frozenset({"XX001", "XX002"})
"""A damaged table or index.  All other codes are about the row: triggers raise what they like."""
POLICY_FUNCTION: Final = "ExecWithCheckOptions"
"""Where a policy refuses a row; the code is that of a missing grant, and the words are in the server's language."""


class Again(Exception):
    """Try the same rows again over the same connection."""


class TableChanged(Exception):
    """The statement was made for a table, or function, that was another one."""


def is_refusal(error: psycopg.Error | UnicodeEncodeError) -> bool:
    """Whether a row is to blame, if the connection is as it was.

    Raises:
        Again: the same rows may be written if they are tried again.
    """
    if isinstance(error, UnicodeEncodeError):
        return True
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.DataError)  # NUL in a text, which psycopg does not even send
    if state.startswith(RETRIED) or state == CANCELLED:
        raise Again(first_line(error)) from error
    if state == "42501":
        return error.diag.source_function == POLICY_FUNCTION
    if is_about_values(error):
        return True
    return not state.startswith(OURS) and state not in OURS_CODES


def is_raised(error: psycopg.Error) -> bool:
    """Whether a trigger or function says so itself, and not Postgres."""
    return error.diag.source_function == RAISE_FUNCTION


def is_for_people(error: BaseException) -> bool:
    """Whether trying again is of no use until somebody has changed the database."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(FOR_PEOPLE)


def reason_of(error: psycopg.Error | UnicodeEncodeError) -> str:
    """Why Postgres, or the conversion to its encoding, refused a row, in one line."""
    if isinstance(error, UnicodeEncodeError):
        return "the payload has half of a character (a lone surrogate)"
    diagnosis = error.diag
    if diagnosis.message_primary is None:
        return first_line(error)
    detail = f": {diagnosis.message_detail}" if diagnosis.message_detail else ""
    return f"{error.sqlstate}: {diagnosis.message_primary}{detail}"
