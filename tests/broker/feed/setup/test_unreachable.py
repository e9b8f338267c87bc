"""Who can't connect is told what to do, for what servers and libpq really say."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.postgres import cluster, database  # noqa: F401 - fixtures

from broker.feed.setup.unreachable import connection_cure


def refused(dsn: str) -> str:
    with pytest.raises(psycopg.OperationalError) as refusal:
        psycopg.connect(dsn, connect_timeout=30)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        (
            {"user": "rowcast_test_nobody"},
            "run `rowcast feed install -c FILE --apply --as DSN`, which creates it",
        ),
        ({"dbname": "rowcast_test_nothing"}, "create it (`createdb NAME`)"),
        ({"port": "1"}, "is the server running there?"),
        ({"host": "/nowhere"}, "is the server running there?"),
        ({"host": "nowhere.invalid", "hostaddr": ""}, "correct the host in the dsn"),
        ({"sslmode": "require"}, "leave sslmode out of the dsn"),
    ],
)
def test_what_a_server_refuses_has_a_cure(
    database: str,  # noqa: F811 - a fixture
    changed: dict[str, str],
    cure: str,
) -> None:
    dsn = make_conninfo(database, **changed)
    assert connection_cure(refused(dsn), dsn).startswith(cure)


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        ('FATAL:  password authentication failed for user "a"', "correct user and password"),
        ("fe_sendauth: no password supplied", "correct user and password"),
        (
            'FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "a", database "b"',
            "let the server's pg_hba.conf",
        ),
        ('FATAL:  role "a" is not permitted to log in', "ALTER ROLE ... LOGIN"),
        ("FATAL:  unsupported startup parameter: options", "leave what it names out of the dsn"),
        ("FATAL:  die Datenbank startet gerade", ""),
    ],
)
def test_known_words_have_a_cure_and_unknown_ones_none(error: str, cure: str) -> None:
    assert connection_cure(error, "dbname=x").startswith(cure)
    assert bool(connection_cure(error, "dbname=x")) == bool(cure)
