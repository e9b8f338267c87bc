"""What the doctor says of the kind `outbox`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import Told, config_of_both, findings, run_steps, said, texts, undone
from support.installed import feed_config, install, sql

from broker.config.feeds import Replication
from broker.feed.cures import INSTALL
from broker.feed.setup.doctor_outbox import check_backlog, check_functions, check_installation, check_triggers
from broker.feed.setup.findings import Examination, Finding
from broker.feed.setup.install_outbox import install_steps


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DROP TRIGGER rowcast_capture ON event", "its rows are not seen"),
        ("ALTER TABLE event DISABLE TRIGGER rowcast_capture", "is disabled"),
        ("ALTER TABLE rowcast.outbox_commit DISABLE TRIGGER outbox_number", "not numbered at their commit"),
        ("DELETE FROM rowcast.feed", "does not know the feed test"),
        ("DROP TABLE rowcast.outbox_pruned", "rowcast.outbox_pruned is missing"),
        ("DELETE FROM rowcast.outbox_pruned", "rowcast.outbox_pruned is empty"),
    ],
)
def test_doctor_names_what_is_wrong_with_an_outbox_feed(dsn: str, statement: str, says: str) -> None:
    config = feed_config(dsn, "outbox")
    install(config)
    assert not findings(config)
    sql(dsn, statement)
    assert says in texts(config)


def test_the_trigger_of_a_partition_that_is_off_is_seen_and_an_installation_turns_it_on(
    database: str,
) -> None:
    sql(
        database,
        "CREATE TABLE event (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE event_a PARTITION OF event FOR VALUES FROM (0) TO (100)",
    )
    config = feed_config(database, "outbox")
    install(config)
    assert texts(config) == ""
    sql(database, "ALTER TABLE event_a DISABLE TRIGGER rowcast_capture")
    assert "the trigger of event_a, a partition of public.event, is disabled" in texts(config)
    install(config)
    assert texts(config) == ""


CONFIG = config_of_both("user=postgres")


@pytest.fixture
def undoing(outbox_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(outbox_database) as connection:
        yield connection


NUMBER = "ALTER TABLE rowcast.outbox_commit {} TRIGGER outbox_number"
UNNUMBERED = "transactions are not numbered at their commit: the trigger outbox_number is off"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", []),
        ("ALTER TABLE rowcast.feed RENAME TO elsewhere", ["the table rowcast.feed is missing"]),
        ("DROP TABLE rowcast.outbox", ["the table rowcast.outbox is missing"]),
        ("DROP TABLE rowcast.outbox_commit", ["the table rowcast.outbox_commit is missing"]),
        ("DROP TABLE rowcast.outbox_pruned", ["the table rowcast.outbox_pruned is missing"]),
        (
            "DELETE FROM rowcast.outbox_pruned",
            ["rowcast.outbox_pruned is empty: what was pruned unread is not known"],
        ),
        (NUMBER.format("DISABLE"), [UNNUMBERED]),
        (NUMBER.format("ENABLE REPLICA"), [UNNUMBERED]),
        (NUMBER.format("ENABLE"), ["transactions of replication or pg_restore are not numbered at their commit"]),
        ("DROP TRIGGER outbox_number ON rowcast.outbox_commit", [UNNUMBERED]),
        (
            "DROP TRIGGER outbox_number ON rowcast.outbox_commit;"
            "CREATE TRIGGER outbox_number AFTER INSERT ON event EXECUTE FUNCTION rowcast.outbox_taken();"
            "ALTER TABLE event ENABLE ALWAYS TRIGGER outbox_number",
            [UNNUMBERED],
        ),
        ("UPDATE rowcast.feed SET name = 'other'", ["the outbox does not know the feed test"]),
    ],
    ids=[
        "whole", "no feed", "no outbox", "no commits", "no pruned", "pruned empty", "number off", "number replica",
        "number origin", "no number", "number elsewhere", "unknown",
    ],
)  # fmt: skip
def test_parts_of_the_installation_are_there(
    undoing: psycopg.Connection[Any], statement: str, expected: list[str]
) -> None:
    undoing.execute(statement)
    found = said(check_installation, Examination(undoing, CONFIG))
    assert [text for level, text, cure in found if (level, cure) == ("wrong", INSTALL)] == expected
    is_known = not any("missing" in text or "know the feed" in text for text in expected)
    assert (("fine", "the outbox is installed", "") in found) is is_known


@pytest.mark.parametrize(
    "right",
    [
        "SELECT ON rowcast.feed",
        "UPDATE ON rowcast.feed",
        "SELECT ON rowcast.outbox",
        "DELETE ON rowcast.outbox",
    ],
)
def test_role_may_read_and_prune(undoing: psycopg.Connection[Any], right: str) -> None:
    config = evolve(CONFIG, dsn="user=feeder")
    undoing.execute("CREATE ROLE feeder")
    run_steps(undoing, install_steps(config, "PUBLIC"))
    undoing.execute("SET LOCAL ROLE feeder")
    assert said(check_installation, Examination(undoing, config)) == [("fine", "the outbox is installed", "")]
    undoing.execute(f"RESET ROLE; REVOKE {right} FROM feeder; SET LOCAL ROLE feeder")
    lacking = ("wrong", "feeder may not read and prune the outbox", INSTALL)
    assert next(iter(check_installation(Examination(undoing, config)))) == Finding(*lacking)


@pytest.mark.parametrize(
    ("dropped", "expected"),
    [
        ("outbox_mark()", [("wrong", "rowcast.outbox_mark() is missing: writing to a captured table fails", INSTALL)]),
        (
            "outbox_row(oid, oid, record), rowcast.outbox_number_rest()",
            [
                (
                    "unwise",
                    "there is no rowcast.outbox_number_rest(), rowcast.outbox_row(): dropped since, or installed by an"
                    " earlier version",
                    INSTALL,
                )
            ],
        ),
    ],
    ids=["mark", "others"],
)  # fmt: skip
def test_functions_that_are_called_by_name_are_missed(
    undoing: psycopg.Connection[Any], dropped: str, expected: list[tuple[str, str, str]]
) -> None:
    assert said(check_functions, Examination(undoing, CONFIG)) == []
    undoing.execute(f"DROP FUNCTION rowcast.{dropped}")
    assert said(check_functions, Examination(undoing, CONFIG)) == expected
    if "mark" in dropped:
        with pytest.raises(psycopg.errors.UndefinedFunction):
            undoing.execute("INSERT INTO event (id) VALUES (1)")


def test_functions_are_not_missed_where_nothing_is_installed(undoing: psycopg.Connection[Any]) -> None:
    undoing.execute("DROP SCHEMA rowcast CASCADE")
    assert said(check_functions, Examination(undoing, CONFIG)) == []


CAPTURED = ("fine", "public.event is captured on insert, delete", "")
PARTED = ("fine", "public.parted is captured on insert, delete", "")
MADE = (
    "DROP TRIGGER rowcast_capture ON event; CREATE TRIGGER rowcast_capture AFTER {} ON event FOR EACH ROW {}"
    " EXECUTE FUNCTION rowcast.outbox_capture('{}'); ALTER TABLE event ENABLE ALWAYS TRIGGER rowcast_capture"
)
OTHER_FUNCTION = (
    "DROP TRIGGER rowcast_capture ON event; CREATE TRIGGER rowcast_capture AFTER INSERT OR DELETE ON event FOR EACH ROW"
    " EXECUTE FUNCTION rowcast.outbox_taken(); ALTER TABLE event ENABLE ALWAYS TRIGGER rowcast_capture"
)
NOT_OURS = "the trigger of public.event is not as Rowcast has made it: its rows may not be seen"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DROP TRIGGER rowcast_capture ON event", "public.event has no trigger rowcast_capture: its rows are not seen"),
        (
            "ALTER TABLE event ENABLE TRIGGER rowcast_capture",
            "the trigger of public.event does not fire for rows that replication or pg_restore writes",
        ),
        (
            "ALTER TABLE event ENABLE REPLICA TRIGGER rowcast_capture",
            "the trigger of public.event fires for rows that replication or pg_restore writes alone",
        ),
        ("ALTER TABLE event DISABLE TRIGGER rowcast_capture", "the trigger of public.event is disabled"),
        (MADE.format("INSERT", "", "public.event"), "the trigger of public.event leaves out delete"),
        (MADE.format("UPDATE", "", "public.event"), "the trigger of public.event leaves out insert and delete"),
        (MADE.format("INSERT OR DELETE", "WHEN (pg_trigger_depth() = 0)", "public.event"), NOT_OURS),
        (MADE.format("INSERT OR DELETE OR UPDATE OF note", "", "public.event"), NOT_OURS),
        (MADE.format("INSERT OR DELETE", "", "event"), NOT_OURS),
        (OTHER_FUNCTION, NOT_OURS),
        (MADE.format("INSERT OR DELETE OR UPDATE", "", "public.event"), ""),
        ("DROP TABLE event", None),
    ],
    ids=[
        "none", "origin", "replica", "disabled", "insert", "update", "condition", "column", "argument", "function",
        "more", "no table",
    ],
)  # fmt: skip
def test_trigger_of_each_table_captures_what_routes_want(
    undoing: psycopg.Connection[Any], statement: str, text: str | None
) -> None:
    undoing.execute(statement)
    found = said(check_triggers, Examination(undoing, CONFIG))
    if not text:
        assert found == [PARTED] if text is None else [CAPTURED, PARTED]
        return
    (event, parted) = found
    assert (event[:2], parted) == (("wrong", text), PARTED)
    if event[2] == INSTALL:
        run_steps(undoing, install_steps(CONFIG, "PUBLIC"))
    else:
        undoing.execute(event[2])
    assert said(check_triggers, Examination(undoing, CONFIG)) == [CAPTURED, PARTED]


@pytest.mark.parametrize("state", ["DISABLE", "ENABLE", "ENABLE REPLICA"])
def test_trigger_of_each_partition_is_on(undoing: psycopg.Connection[Any], state: str) -> None:
    undoing.execute(f"ALTER TABLE parted_a {state} TRIGGER rowcast_capture")
    assert said(check_triggers, Examination(undoing, CONFIG)) == [
        CAPTURED,
        ("wrong", "the trigger of parted_a, a partition of public.parted, is disabled", INSTALL),
    ]


@pytest.mark.parametrize(
    ("count", "age_s", "level", "text"),
    [
        (0, 0, "fine", "unread: 0 transactions"),
        (5, 60, "fine", "unread: 5 transactions"),
        (5, 61, "unwise", "unread: 5 transactions, the oldest for 61 s"),
        (5, 500, "unwise", "unread: 5 transactions, the oldest for 500 s"),
        (5, 501, "wrong", "unread rows are 501 s old and pruned at 1000 s"),
    ],
)
def test_backlog_is_said_before_it_is_pruned(count: int, age_s: int, level: str, text: str) -> None:
    config = evolve(CONFIG, replication=Replication(keep_unread_s=1000.0))
    answers: dict[str, list[tuple[Any, ...]]] = {
        "to_regclass": [(True,)],
        "min(committed_at)": [(count, age_s)],
        "seq IS NULL": [(0,)],
    }
    ((found, words, _),) = said(check_backlog, Told(config, answers))
    assert (found, words) == (level, text)


def test_backlog_is_what_committed_behind_the_feed(undoing: psycopg.Connection[Any]) -> None:
    def found() -> list[str]:
        return [text for _, text, _ in said(check_backlog, Examination(undoing, CONFIG))]

    undoing.execute(
        "UPDATE rowcast.feed SET read_seq = 2; INSERT INTO rowcast.feed (name, kind) VALUES ('a', 'outbox')"
    )
    undoing.execute(
        "INSERT INTO rowcast.outbox_commit (xid, seq, committed_at)"
        " SELECT n::text::xid8, n, now() - make_interval(secs => 100 - n) FROM generate_series(1, 4) AS n"
    )
    assert found() == ["unread: 2 transactions, the oldest for 97 s"]
    undoing.execute("INSERT INTO rowcast.outbox_commit (xid) VALUES ('9')")
    assert found()[1:] == ["committed without a number: 1 transaction"]


def test_where_there_is_no_outbox_there_is_no_backlog() -> None:
    assert said(check_backlog, Told(CONFIG, {"to_regclass": [(False,)]})) == []
