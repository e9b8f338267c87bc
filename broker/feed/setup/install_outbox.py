"""What a feed of the kind `outbox` needs in its database: a table that triggers fill.  Pure."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.altered import ALTERED_OUTBOX, OUTBOX_FUNCTIONS
from broker.feed.driver.sql_text import identifier, quoted_name, text_of
from broker.feed.routing.tables import table_operations
from broker.feed.setup.install_marks import remember_statement
from broker.feed.setup.install_notices import notice_steps
from broker.feed.setup.sql_files import sql_file
from broker.feed.setup.steps import (
    CAPTURE_TRIGGER,
    TRIGGER_BITS,
    Step,
    base_step,
    drop_triggers,
    drop_wal,
    grants,
    know,
    publish_step,
    remember_installed,
    role_step,
    signed,
    signed_notices,
)

_LAST: Final = "coalesce((SELECT max(seq) FROM rowcast.outbox_commit), 0)"

_PRIVILEGES: Final = (
    "GRANT SELECT, DELETE ON rowcast.outbox, rowcast.outbox_commit TO {}",
    "GRANT SELECT, UPDATE ON rowcast.outbox_pruned TO {}",
    "GRANT SELECT ON rowcast.outbox_seq TO {}",
)


def install_steps(config: FeedConfig, publishers: str) -> list[Step]:
    """As `broker.feed.setup.install.install_steps`."""
    return [
        base_step(),
        role_step(config, may_replicate=False),
        Step("the outbox", _outbox()),
        *_triggers(config),
        Step("the consumer, from now on", know(config, _LAST)),
        *leftovers(config),
        publish_step("publish_outbox.sql", publishers),
        Step("exactly what the feed's role needs", grants(config, _PRIVILEGES)),
        *(Step(*step) for step in notice_steps(config)),
        *signed_notices(config),
        Step("what is captured from now on", remember_statement(config)),
        Step("that it is installed", remember_installed(config, True)),
    ]


def _outbox() -> str:
    """In one transaction: nobody's alteration goes away unsaid."""
    owe = sql_file("owe_for_altered.sql").format(altered=ALTERED_OUTBOX)
    return ";\n".join([owe, sql_file("outbox.sql"), signed(OUTBOX_FUNCTIONS)])


def leftovers(config: FeedConfig) -> list[Step]:
    """What a feed of this name may have left behind that was of another kind before."""
    wanted = table_operations(config)
    return [*drop_wal(config), Step("triggers that nobody wants", drop_triggers(config, wanted))]


def _triggers(config: FeedConfig) -> list[Step]:
    steps = []
    for table, operations in table_operations(config).items():
        create = sql.SQL(sql_file("trigger.sql")).format(
            table=sql.Literal(quoted_name(table)),
            target=identifier(table),
            argument=sql.Literal(table),
            trigger=sql.Identifier(CAPTURE_TRIGGER),
            trigger_name=sql.Literal(CAPTURE_TRIGGER),
            bits=sql.Literal(1 + sum(TRIGGER_BITS[operation] for operation in operations)),
            operations=sql.SQL(" OR ".join(operation.upper() for operation in operations)),
        )
        steps.append(Step(f"the trigger of {table}", text_of(create)))
    return steps
