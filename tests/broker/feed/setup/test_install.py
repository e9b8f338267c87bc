"""What `rowcast feed install` and `remove` run, whatever the kind."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.doctored import as_kind, findings
from support.installed import connect, feed_config, install, sql

from broker.config.feeds import Route, Source
from broker.feed.setup.install import install_steps, remove_steps


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_remove_takes_everything_away_and_may_be_repeated(dsn: str, kind: str) -> None:
    config = feed_config(dsn, kind)
    install(config)
    for _ in range(2):
        with connect(dsn) as connection:
            for step in remove_steps(config, drop_schema=True):
                connection.execute(step.statement)
    with connect(dsn) as connection:
        left = (
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),"
            " (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),"
            " to_regnamespace('rowcast') IS NULL, (SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d"
            " ON d.oid = s.setdatabase WHERE d.datname = current_database())"
        )
        assert connection.execute(left).fetchone() == (0, 0, 0, True, ["rowcast.installed="])
        connection.execute("INSERT INTO event VALUES (1, 'still writable')")


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_role_made_by_install_can_run_the_feed_and_no_more(dsn: str, kind: str) -> None:
    """Least privilege: the doctor, as that role, finds nothing wrong; the tables stay closed to it."""
    config = feed_config(dsn.replace("user=postgres", "user=rowcast_feed"), kind)
    try:
        with connect(dsn) as connection:
            for step in install_steps(config):
                connection.execute(step.statement)
        assert not findings(config)
        with connect(config.dsn) as connection:
            may = (
                "SELECT rolsuper, has_table_privilege('event', 'SELECT'),"
                " has_schema_privilege('rowcast', 'CREATE') FROM pg_roles WHERE rolname = current_user"
            )
            assert connection.execute(may).fetchone() == (False, False, False)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_feed", "DROP ROLE rowcast_feed")


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("wal", "the schema rowcast and the table of feeds", "that it is installed"),
        ("outbox", "the schema rowcast and the table of feeds", "that it is installed"),
        ("listen", "the schema rowcast and the table of feeds", "triggers that nobody wants"),
    ],
)
def test_each_kind_installs_what_it_needs(kind: str, first: str, last: str) -> None:
    steps = install_steps(as_kind("user=postgres dbname=shop", kind))
    assert (steps[0].purpose, steps[-1].purpose) == (first, last)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_publishers_and_widening_are_handed_on(kind: str) -> None:
    config = feed_config("user=postgres dbname=shop", kind)
    told = {step.purpose: step.statement for step in install_steps(config, "Somebody", widen=True)}
    untold = {step.purpose: step.statement for step in install_steps(config)}
    assert [one for one in told if told[one] != untold[one]] == (
        ["the publications"] * (kind == "wal") + ["rowcast.publish(), and who may use it"]
    )
    assert 'TO "Somebody"' in told["rowcast.publish(), and who may use it"]
    assert "TO PUBLIC" in untold["rowcast.publish(), and who may use it"]


@pytest.mark.parametrize(
    ("carries", "drop_schema"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_removal_puts_functions_right_before_the_schema_goes(carries: bool, drop_schema: bool) -> None:
    config = feed_config("user=postgres dbname=shop")
    if carries:
        config = evolve(config, sources=(Source("tables", ("heard",)),), routes=(Route("tables", ("t",)),))
    purposes = [step.purpose for step in remove_steps(config, drop_schema)]
    assert purposes[: -1 if drop_schema else None][-1] == (
        "the functions that notify, as they were" if carries or drop_schema else "that it was installed"
    )
    assert (purposes[-1] == "the schema with everything in it") is drop_schema
    assert purposes[:6] == [
        "end the reader of its slot", "its slot", "its publications", "its triggers", "its row in the table of feeds",
        "that it was installed",
    ]  # fmt: skip
