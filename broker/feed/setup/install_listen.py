"""What a feed of the kind `listen` needs in its database.  Pure.

LISTEN needs no object and no privilege; what is read by key must be readable; recovery keeps how far it got.
"""

from __future__ import annotations

from broker.config.feeds import FeedConfig
from broker.feed.setup.steps import (
    Step,
    base_step,
    drop_triggers,
    drop_wal,
    grant_select,
    grants,
    know,
    remember_installed,
    role_step,
)


def install_steps(config: FeedConfig) -> list[Step]:
    """As `broker.feed.setup.install.install_steps`."""
    if not config.keyed_tables:
        return leftovers(config)
    steps = [role_step(config, may_replicate=False)]
    if config.recoveries:
        steps.insert(0, base_step())
        steps.append(Step("the feed", know(config, "0")))
        steps.append(Step("keep how far the feed has got", grants(config)))
        steps.append(Step("that it is installed", remember_installed(config, True)))
    for recovery in config.recoveries:
        steps.append(Step(f"read {recovery.table} again after a gap", grant_select(config, recovery.table)))
    for fetch in config.fetches:
        purpose = f"read the rows of {fetch.table} that are too long for a notification"
        steps.append(Step(purpose, grant_select(config, fetch.table)))
    return [*steps, *leftovers(config)]


def leftovers(config: FeedConfig) -> list[Step]:
    """What a feed of this name may have left behind that was of another kind before."""
    return [*drop_wal(config), Step("triggers that nobody wants", drop_triggers(config))]
