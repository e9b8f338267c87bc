"""The SQL that a feed needs in its database, and the SQL that takes it away again.  Pure: text in, text out.

Every statement may run again without harm.  They are meant to run one by one, each in its own transaction: a
slot can't be created in a transaction that has written.
"""

from __future__ import annotations

from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.sql_text import text_of
from broker.feed.kinds import kind_of
from broker.feed.notices import carried_channels
from broker.feed.setup.install_notices import remove_step
from broker.feed.setup.steps import (
    Step,
    drop_triggers,
    drop_wal,
    remember_installed,
    where_installed,
)


def install_steps(config: FeedConfig, publishers: str = "PUBLIC", widen: bool = False) -> list[Step]:
    """What `rowcast feed install` runs, in order.

    Args:
        publishers: the role that may call `rowcast.publish()`, or PUBLIC.
        widen: publish also columns and rows that somebody has kept out of a publication.
    """
    return kind_of(config).install_steps(config, publishers, widen)


def remove_steps(config: FeedConfig, drop_schema: bool = False) -> list[Step]:
    """What `rowcast feed remove` runs, whatever kind the feed has been of.

    Args:
        drop_schema: take away everything of every feed.
    """
    steps = [*drop_wal(config), Step("its triggers", drop_triggers(config))]
    forget = sql.SQL("DELETE FROM rowcast.feed WHERE name = {}").format(sql.Literal(config.name))
    steps.append(Step("its row in the table of feeds", where_installed(text_of(forget))))
    steps.append(Step("that it was installed", remember_installed(config, False)))
    if drop_schema or carried_channels(config):
        steps.append(Step(*remove_step()))
    if drop_schema:
        steps.append(Step("the schema with everything in it", "DROP SCHEMA IF EXISTS rowcast CASCADE"))
    return steps
