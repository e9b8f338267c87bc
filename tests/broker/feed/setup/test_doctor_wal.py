"""What the doctor says of the kind `wal`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.columns_and_rows import TABLE, has_lists
from support.doctored import Told, findings, said, texts, undone
from support.installed import feed_config, install, sql

from broker.config.feeds import FeedConfig, Replication, Route, Source
from broker.feed.cures import INSTALL
from broker.feed.setup.doctor_wal import (
    check_installation,
    check_publication,
    check_replica_identity,
    check_role,
    check_settings,
    check_slot,
)
from broker.feed.setup.findings import Examination
from broker.feed.setup.steps import base_step


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
            "there is no slot rowcast_test",
        ),
        ("DROP PUBLICATION rowcast_test", "there is no publication rowcast_test"),
        ("ALTER PUBLICATION rowcast_test DROP TABLE event", "lacks the table public.event"),
        ("ALTER PUBLICATION rowcast_test SET (publish = 'delete')", "leaves out inserts"),
        ("DROP TABLE event", "there is no table public.event"),
        ("DROP SCHEMA rowcast CASCADE", "the schema rowcast is missing"),
        ("ALTER TABLE event REPLICA IDENTITY NOTHING", "updating or deleting its rows fails"),
    ],
)
def test_doctor_names_what_is_wrong_with_a_wal_feed(dsn: str, statement: str, says: str) -> None:
    route = Route("tables", ("e/{id}",), operations=("insert", "update"))
    config = feed_config(dsn, routes=(route,))
    install(config)
    assert not findings(config)
    sql(dsn, statement)
    assert says in texts(config)


def test_doctor_names_unbounded_wal(dsn: str) -> None:
    config = feed_config(dsn, replication=Replication())
    install(config)
    assert "max_slot_wal_keep_size is unlimited" in texts(config)


def test_hand_made_list_that_leaves_out_what_a_route_names_is_said(database: str) -> None:
    config = feed_config(database, routes=(Route("tables", ("event/{status}",), where="rowcast.toml:12"),))
    sql(config.dsn, TABLE)
    if not has_lists(config):
        pytest.skip("no lists of columns before PostgreSQL 15")
    install(config)
    sql(config.dsn, "ALTER PUBLICATION rowcast_test SET TABLE event (id)")
    assert "rowcast.toml:12 names status of public.event, which the publication leaves out" in texts(config)


Answers = dict[str, list[tuple[Any, ...]]]
CONFIG = feed_config("user=feeder dbname=shop")
BOUNDED = ("fine", "a slot nobody reads can keep 10GB of WAL at most (max_slot_wal_keep_size)", "")
LOGICAL = ("fine", "wal_level is logical", "")
SETTINGS: Answers = {
    "('wal_level',)": [("logical",)],
    "('max_slot_wal_keep_size',)": [("10GB",)],
    "('max_replication_slots',)": [("5",)],
    "('max_wal_senders',)": [("4",)],
    "idle_replication_slot_timeout": [(None,)],
    "count(*) FROM pg_replication_slots": [(4,)],
    "count(*) FROM pg_stat_replication": [(3,)],
}
SLOT = ("pgoutput", True, "reserved", False, 100, 200, 1000, "rowcast_test_shop")


@pytest.mark.parametrize(
    ("differs", "may_be_unbounded", "level", "text"),
    [
        ({}, False, "", ""),
        ({"('wal_level',)": [("replica",)]}, False, "wrong", "wal_level is replica, not logical"),
        (
            {"('max_slot_wal_keep_size',)": [("-1",)]},
            False,
            "wrong",
            "max_slot_wal_keep_size is unlimited, and the feed refuses to start",
        ),
        (
            {"('max_slot_wal_keep_size',)": [("-1",)]},
            True,
            "unwise",
            "a slot nobody reads can fill the disk, which allow_unbounded_wal permits",
        ),
        ({"idle_replication_slot_timeout": [("0",)]}, False, "", ""),
        (
            {"idle_replication_slot_timeout": [("2d",)]},
            False,
            "unwise",
            "a slot nobody reads for 2d is invalidated (idle_replication_slot_timeout): a longer stop is a gap",
        ),
        (
            {"count(*) FROM pg_replication_slots": [(5,)]},
            False,
            "wrong",
            "all 5 replication slots are in use",
        ),
        ({"count(*) FROM pg_replication_slots": [(5,)], "SELECT plugin": [SLOT]}, False, "", ""),
        ({"count(*) FROM pg_stat_replication": [(4,)]}, False, "unwise", "all 4 WAL senders are in use"),
    ],
    ids=[
        "good", "level", "unbounded", "unbounded and allowed", "never idle", "idle", "slots", "slots with ours",
        "senders",
    ],
)  # fmt: skip
def test_settings_allow_replication_and_bound_what_a_slot_keeps(
    differs: Answers, may_be_unbounded: bool, level: str, text: str
) -> None:
    config = evolve(CONFIG, replication=Replication(allow_unbounded_wal=may_be_unbounded))
    found = said(check_settings, Told(config, SETTINGS | differs))
    others = [one for one in found if one not in (LOGICAL, BOUNDED)]
    assert [one[:2] for one in others] == ([(level, text)] if text else [])
    assert all(cure for _, _, cure in others)
    assert (LOGICAL in found) is ("('wal_level',)" not in differs)
    assert (BOUNDED in found) is ("('max_slot_wal_keep_size',)" not in differs)


@pytest.mark.parametrize(
    ("slot", "stopped_at", "level", "text"),
    [
        ({}, None, "fine", "is not being read now, 100 bytes behind; it keeps 200 bytes of WAL"),
        ({"active": True}, None, "fine", "is being read, 100 bytes behind; it keeps 200 bytes of WAL"),
        ({"plugin": "test_decoding"}, None, "wrong", "belongs to another database or plugin"),
        ({"is_here": False}, None, "wrong", "belongs to another database or plugin"),
        ({"status": "lost"}, None, "wrong", "is lost: too much WAL was waiting"),
        ({"status": "unreserved"}, None, "wrong", "is about to be lost"),
        ({"status": "extended"}, None, "fine", "is not being read now, 100 bytes behind"),
        ({}, 999, "wrong", "somebody has moved the slot rowcast_test_shop, read from it or made it anew"),
        ({}, 1000, "fine", "is not being read now"),
        ({"active": True}, 999, "fine", "is being read"),
        ({"confirmed": None}, 999, "fine", "is not being read now"),
        ({}, 0, "fine", "is not being read now"),
        ({"lag": 1 << 28}, None, "fine", "268435456 bytes behind"),
        ({"lag": (1 << 28) + 1}, None, "unwise", "268435457 bytes of WAL wait in the slot rowcast_test_shop"),
    ],
    ids=[
        "idle", "active", "plugin", "elsewhere", "lost", "unreserved", "extended", "moved", "not moved", "moving",
        "unconfirmed", "never stopped", "behind", "far behind",
    ],
)  # fmt: skip
def test_slot_is_ours_and_whole_and_not_far_behind(
    slot: dict[str, Any], stopped_at: int | None, level: str, text: str
) -> None:
    names = ("plugin", "is_here", "status", "active", "lag", "kept", "confirmed", "name")
    row = tuple((dict(zip(names, SLOT, strict=True)) | slot).values())
    answers: Answers = {
        "SELECT plugin": [row],
        "to_regclass": [(True,)],
        "stopped_at": [] if stopped_at is None else [(stopped_at,)],
    }
    ((found, words, cure),) = said(check_slot, Told(CONFIG, answers))
    assert (found, text in words, "rowcast_test_shop" in words) == (level, True, True)
    assert bool(cure) == (level != "fine")


def test_slot_that_is_not_there_loses_what_commits() -> None:
    assert said(check_slot, Told(CONFIG, {})) == [
        ("wrong", "there is no slot rowcast_test_shop: what commits now is lost", INSTALL)
    ]


@pytest.fixture
def undoing(kept_database: str) -> Iterator[psycopg.Connection[Any]]:
    made = 'CREATE TABLE event (id bigint PRIMARY KEY, note text); CREATE TABLE "Odd" (id bigint, note text)'
    with undone(kept_database, made) as connection:
        yield connection


def of(*tables: str, operations: tuple[str, ...] = ("insert",), **changes: Any) -> FeedConfig:
    return feed_config(
        "user='odd role' dbname=shop",
        sources=(Source("tables", (), tables=tables),),
        routes=(Route("tables", ("t/{id}",), operations=operations, where="rowcast.toml:12"),),
        **changes,
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("SELECT 1", ("wrong", "there is no role odd role", INSTALL)),
        ('CREATE ROLE "odd role"', ("wrong", "odd role may not replicate", 'ALTER ROLE "odd role" REPLICATION')),
        (
            'CREATE ROLE "odd role"; CREATE ROLE rds_replication',
            ("wrong", "odd role may not replicate", 'GRANT rds_replication TO "odd role"'),
        ),
        ('CREATE ROLE "odd role" REPLICATION', ("fine", "odd role may replicate and is no superuser", "")),
        (
            'CREATE ROLE "odd role" SUPERUSER',
            (
                "unwise",
                "odd role is a superuser, which a feed does not need",
                "let the dsn name a role of its own; `rowcast feed install` shows what it needs",
            ),
        ),
    ],
    ids=["none", "plain", "service", "replicating", "superuser"],
)  # fmt: skip
def test_role_may_replicate_and_no_more(
    undoing: psycopg.Connection[Any], made: str, expected: tuple[str, str, str]
) -> None:
    undoing.execute(made)
    examination = Examination(undoing, of("public.event"))
    assert said(check_role, examination) == [expected]
    if expected[2].startswith(("ALTER", "GRANT")):
        undoing.execute(expected[2])
        assert said(check_role, examination) == [("fine", "odd role may replicate and is no superuser", "")]


PUBLISH = "CREATE FUNCTION rowcast.publish({}) RETURNS void LANGUAGE sql AS 'SELECT'"
PROPERTIES = "CREATE FUNCTION rowcast.publish_properties() RETURNS void LANGUAGE sql AS 'SELECT'"


def test_installation_has_a_place_and_what_publishes(undoing: psycopg.Connection[Any]) -> None:
    examination = Examination(undoing, of("public.event"))

    def found() -> list[tuple[str, str, str]]:
        return said(check_installation, examination)

    assert found() == [("wrong", "the schema rowcast is missing", INSTALL)]
    undoing.execute(base_step().statement)
    missing = ("unwise", "rowcast.publish() is missing, so nothing can be published from SQL", INSTALL)
    assert found() == [missing]
    undoing.execute(PUBLISH.format("a text"))
    assert found() == [missing]
    undoing.execute(PUBLISH.format("a bytea"))
    (there, earlier) = found()
    assert (there, earlier[0]) == (("fine", "rowcast.publish() is there", ""), "unwise")
    undoing.execute(PROPERTIES)
    assert found() == [there]
    undoing.execute("CREATE ROLE blind; SET LOCAL ROLE blind")
    assert found() == [("wrong", "odd role may not use the table rowcast.feed", INSTALL)]


@pytest.mark.parametrize(("version", "is_too_old"), [(139999, True), (140000, False)])
def test_messages_come_from_14_on(version: int, is_too_old: bool) -> None:
    answers: Answers = {"to_regclass": [(True,)], "proname = 'publish'": [(2,)], "publish_properties": [()]}
    found = said(check_installation, Told(CONFIG, answers, version))
    assert [level for level, _, _ in found] == ["unwise" if is_too_old else "fine"]


DEFINED = "CREATE PUBLICATION rowcast_test{} {} WITH (publish = '{}', publish_via_partition_root = {})"
OTHERS = [("fine", f"the publication rowcast_test_{name} has 0 tables", "") for name in ("update", "delete")]


@pytest.mark.parametrize(
    ("tables", "publish", "root", "expected"),
    [
        (
            'FOR TABLE event, "Odd"', "insert", True,
            [("fine", "the publication rowcast_test has 2 tables", "")],
        ),
        (
            "FOR TABLE event", "insert", True,
            [
                ("wrong", "the publication rowcast_test lacks the table public.Odd", INSTALL),
                ("fine", "the publication rowcast_test has 1 table", ""),
            ],
        ),
        (
            'FOR TABLE event, "Odd"', "update", True,
            [
                ("wrong", "the publication rowcast_test leaves out inserts", INSTALL),
                ("fine", "the publication rowcast_test has 2 tables", ""),
            ],
        ),
        (
            'FOR TABLE event, "Odd"', "insert", False,
            [
                ("unwise", "the publication rowcast_test names partitions instead of their tables", INSTALL),
                ("fine", "the publication rowcast_test has 2 tables", ""),
            ],
        ),
        (
            'FOR TABLE event, "Odd", more', "insert", True,
            [
                ("unwise", "public.more is published, but no route wants its inserts", INSTALL),
                ("fine", "the publication rowcast_test has 3 tables", ""),
            ],
        ),
        (
            "FOR ALL TABLES", "insert", True,
            [
                (
                    "unwise", "the publication rowcast_test is of all tables, whether a route wants them or not",
                    f'DROP PUBLICATION "rowcast_test", then {INSTALL}',
                ),
            ],
        ),
        (
            "FOR TABLES IN SCHEMA public, \"Odd one\"", "insert", True,
            [
                (
                    "unwise",
                    "the publication rowcast_test is of all tables in Odd one, public, whether a route wants them or"
                    " not",
                    f'ALTER PUBLICATION "rowcast_test" DROP TABLES IN SCHEMA "Odd one", "public", then {INSTALL}',
                ),
            ],
        ),
        ("", "", False, [("wrong", "there is no publication rowcast_test", INSTALL)]),
    ],
    ids=["right", "lacks one", "operation", "partitions", "more", "all", "schema", "none"],
)  # fmt: skip
def test_publication_has_the_tables_and_operation_of_the_routes(
    undoing: psycopg.Connection[Any],
    tables: str,
    publish: str,
    root: bool,
    expected: list[tuple[str, str, str]],
) -> None:
    if "SCHEMA" in tables and undoing.info.server_version < 150000:
        pytest.skip("no schemas in publications before PostgreSQL 15")
    undoing.execute('CREATE TABLE more (id int); CREATE SCHEMA "Odd one"')
    for name in ("update", "delete"):
        undoing.execute(DEFINED.format(f"_{name}", "", name, True))
    if publish:
        undoing.execute(DEFINED.format("", tables, publish, root))
    config = of("public.event", "public.Odd", "public.absent")
    found = said(check_publication, Examination(undoing, config))
    assert found == [*expected, *OTHERS]
    for _, _, cure in found:
        if cure and cure != INSTALL:
            undoing.execute(cure.removesuffix(f", then {INSTALL}"))


def test_what_lists_and_filters_keep_in_is_said_and_wrong_where_a_route_names_it(
    undoing: psycopg.Connection[Any],
) -> None:
    if undoing.info.server_version < 150000:
        pytest.skip("no lists of columns before PostgreSQL 15")
    for name in ("update", "delete"):
        undoing.execute(DEFINED.format(f"_{name}", "", name, True))
    undoing.execute(DEFINED.format("", "FOR TABLE \"Odd\" (note) WHERE (note > 'a'), event", "insert", True))
    config = of("public.Odd", "public.event")
    kept_out = said(check_publication, Examination(undoing, config))[3:]
    assert kept_out == [
        ("fine", "rowcast_test: of public.Odd note are published, and not id", ""),
        ("fine", "rowcast_test: of public.Odd only rows are published where (note > 'a'::text)", ""),
        (
            "wrong",
            "rowcast.toml:12 names id of public.Odd, which the publication leaves out",
            "run `rowcast feed install -c FILE --apply --widen` if it may be published",
        ),
    ]


NO_IDENTITY = "{} has no replica identity: updating or deleting its rows fails"
KEY_ALONE = "public.event: of deleted rows only the key comes (REPLICA IDENTITY FULL gives all of them)"


@pytest.mark.parametrize(
    ("operations", "identity", "expected"),
    [
        (("insert",), "event REPLICA IDENTITY NOTHING", []),
        (("update",), "event REPLICA IDENTITY DEFAULT", [NO_IDENTITY.format("public.Odd")]),
        (("delete",), "event REPLICA IDENTITY DEFAULT", [KEY_ALONE, NO_IDENTITY.format("public.Odd")]),
        (("update",), "event REPLICA IDENTITY NOTHING", [NO_IDENTITY.format(f"public.{t}") for t in ("event", "Odd")]),
        (
            ("delete",), 'event REPLICA IDENTITY FULL; ALTER TABLE "Odd" REPLICA IDENTITY FULL',
            ["public.event: deleted rows come whole", "public.Odd: deleted rows come whole"],
        ),
        (("update",), '"Odd" ALTER id SET NOT NULL; CREATE UNIQUE INDEX i ON "Odd" (id);'
            'ALTER TABLE "Odd" REPLICA IDENTITY USING INDEX i', []),
    ],
    ids=["insert", "update", "delete", "nothing", "full", "index"],
)  # fmt: skip
def test_rows_that_are_updated_or_deleted_have_an_identity(
    undoing: psycopg.Connection[Any], operations: tuple[str, ...], identity: str, expected: list[str]
) -> None:
    undoing.execute(f"ALTER TABLE {identity}")
    config = of("public.event", "public.Odd", "public.absent", operations=operations)
    found = said(check_replica_identity, Examination(undoing, config))
    assert [text for _, text, _ in found] == expected
    for level, _, cure in found:
        assert level == ("wrong" if cure else "fine")
        if cure:
            undoing.execute(cure.partition(", or ")[2])
    assert not [
        one for one in said(check_replica_identity, Examination(undoing, config)) if one[0] == "wrong"
    ]


@pytest.mark.parametrize(("version", "refuses"), [(179999, False), (180000, True)])
def test_generated_columns_in_an_identity_are_refused_from_18_on(version: int, refuses: bool) -> None:
    answers: Answers = {"relkind": [("r", False, True, "f", False)], "attgenerated": [("twice, thrice",)]}
    ((level, text, _),) = said(
        check_replica_identity, Told(of("public.event", operations=("update",)), answers, version)
    )
    assert (level, "(twice, thrice)" in text) == ("wrong" if refuses else "fine", refuses)
