"""What sinks need in their database: the SQL of `rowcast feed install`, and what `rowcast feed check` says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from broker.config.ingest import IngestConfig, SinkConfig
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import identifier, quoted_name, split_name, text_of
from broker.feed.setup.findings import Finding, fine, unwise, wrong
from broker.feed.setup.steps import Step, feed_role
from broker.ingest.plan import (
    COLUMNS_SQL,
    FUNCTION_SQL,
    TARGET_SQL,
    Plan,
    create_dead_letters,
    create_table,
    function_plan,
    table_plan,
)


def install_steps(config: IngestConfig) -> list[Step]:
    """Tables that are not there yet, and exactly the privileges that sinks need.  Every step may run again."""
    role = feed_role(config.database)
    absent = text_of(
        sql.SQL(
            "DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN CREATE ROLE {} LOGIN;"
            " END IF; END $do$"
        ).format(sql.Literal(role), sql.Identifier(role))
    )
    steps = [Step("the feed's role", absent)]
    letters = dict.fromkeys(one.dead_letters for one in config.sinks if one.dead_letters)
    for one in config.sinks:
        if one.table:
            steps.append(Step(f"{one.table}, unless it is there: look at its types", create_table(one)))
        steps.append(Step(f"write to {one.target}", _grant(one, role)))
    for name in letters:
        steps.append(Step("dead letters", create_dead_letters(name)))
        steps.append(Step(f"write to {name}", _grants(name, "INSERT", role)))
    return steps


def _grant(one: SinkConfig, role: str) -> str:
    if one.function:
        schema, last = split_name(one.function)
        # By its name alone, whatever types its arguments have.
        found = sql.SQL(
            "DO $do$ DECLARE f regprocedure; BEGIN FOR f IN SELECT p.oid FROM pg_proc p JOIN pg_namespace s"
            " ON s.oid = p.pronamespace WHERE p.proname = {name} AND p.pronargs = {count} AND ({schema} = ''"
            " OR s.nspname = {schema}) LOOP EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, {role});"
            " END LOOP; END $do$"
        ).format(
            name=sql.Literal(last),
            schema=sql.Literal(schema),
            count=sql.Literal(len(one.columns)),
            role=sql.Literal(role),
        )
        return _usage(one.function, role) + text_of(found)
    reads = one.on_conflict == "update" or any(part.sole == "$message_id" for _, part in one.columns)
    rights = ["INSERT", *(["SELECT"] if reads else []), *(["UPDATE"] if one.on_conflict == "update" else [])]
    return _grants(one.table, ", ".join(rights), role)


def _grants(table: str, rights: str, role: str) -> str:
    return _usage(table, role) + text_of(
        sql.SQL("GRANT " + rights + " ON {} TO {}").format(identifier(table), sql.Identifier(role))
    )


def _usage(name: str, role: str) -> str:
    schema, _ = split_name(name)
    if not schema:
        return ""
    return text_of(
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {};\n").format(sql.Identifier(schema), sql.Identifier(role))
    )


def examine(connection: psycopg.Connection[Any], config: IngestConfig) -> Iterator[Finding]:
    """Each sink against the catalogue, over an autocommitting connection as the feed's own role."""
    for one in config.sinks:
        try:
            plan = _plan(connection, one)
        except psycopg.Error as error:
            yield wrong(f"sink {one.name}: {first_line(error)}", "let the role read the catalogue")
            continue
        for problem in plan.problems:
            yield wrong(f"sink {one.name}: {problem.text}", problem.cure)
        for advice in plan.advice:
            yield unwise(f"sink {one.name}: {advice.text}", advice.cure)
        if not plan.problems:
            yield fine(f"sink {one.name}: writes to {one.target}")


def _plan(connection: psycopg.Connection[Any], one: SinkConfig) -> Plan:
    """As `broker.ingest.writer.load_plan`, for programs that wait."""
    dead: Any = (None, False)
    if one.dead_letters:
        name = quoted_name(one.dead_letters)
        dead = connection.execute(TARGET_SQL, [name] * 3).fetchone()
    if one.function:
        schema, last = split_name(one.function)
        found = connection.execute(FUNCTION_SQL, [last, schema, schema, len(one.columns)]).fetchall()
        return function_plan(one, found, dead)
    name = quoted_name(one.table)
    target: Any = connection.execute(TARGET_SQL, [name] * 3).fetchone()
    return table_plan(one, target, connection.execute(COLUMNS_SQL, [name]).fetchall(), dead)
