"""What is wrong with a database for a feed, in plain words, before production says so.

Each check is a generator of findings over one connection; none changes anything.  `examine` runs those of a
feed's kind.
"""

from __future__ import annotations

from typing import Any

import psycopg
from attrs import frozen

from broker.config.feeds import FeedConfig
from broker.feed.driver.failures import first_line
from broker.feed.kinds import kind_of
from broker.feed.setup.findings import Examination, Finding, wrong


@frozen
class Report:
    """Everything found about one feed."""

    feed: str
    kind: str
    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong; something may be unwise."""
        return all(finding.level != "wrong" for finding in self.findings)


def examine(connection: psycopg.Connection[Any], config: FeedConfig) -> Report:
    """Examine a database over an autocommitting connection as the feed's own role."""
    examination = Examination(connection, config)
    findings: list[Finding] = []
    for check in kind_of(config).checks():
        try:
            findings.extend(check(examination))
        except psycopg.Error as error:
            topic = check.__name__.replace("_", " ").removeprefix("check ")
            first = first_line(error)
            findings.append(wrong(f"{topic}: {first}", "let the feed's role read what this needs"))
    return Report(config.name, config.kind, tuple(findings))
