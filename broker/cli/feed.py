"""`rowcast feed install | show | check | remove`: what feeds need in their databases."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from broker.cli.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from broker.config.arguments import Arguments
from broker.config.feeds import FeedConfig
from broker.config.ingest import IngestConfig
from broker.config.load import load
from broker.config.market import MarketConfig
from broker.config.model import ConfigError
from broker.feed.cures import MADE_LOGICAL
from broker.feed.driver.blockers import BLOCKERS, blocker_words
from broker.feed.driver.failures import first_line
from broker.feed.setup import doctor
from broker.feed.setup.dangers import dangers
from broker.feed.setup.findings import Finding
from broker.feed.setup.install import install_steps, remove_steps
from broker.feed.setup.steps import Step
from broker.feed.setup.unreachable import connection_cure
from broker.ingest import setup as sink_setup
from broker.marketdata import doctor as market_doctor

BLOCKED_FIRST_S = 1.0
BLOCKED_AGAIN_S = 10.0

TURNS: Final = 0x726F7763617374
"""The advisory lock that `install --apply` and `remove --apply` hold in a database: "rowcast" as a number."""

NO_TIMEOUTS: Final = """
SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
"""
"""For this transaction, which lasts as long as the installation."""

_EXAMPLES = """examples:
  rowcast feed install -c rowcast.toml                  show the SQL that the feeds need
  rowcast feed install -c rowcast.toml --apply --as "dbname=shop user=postgres"
  rowcast feed show    -c rowcast.toml                  what is there, and how far behind it is
  rowcast feed check   -c rowcast.toml                  what is wrong, in plain words
  rowcast feed remove  -c rowcast.toml --apply          drop slots, publications, triggers
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `feed` with its four verbs."""
    parser = subparsers.add_parser(
        "feed",
        help="install, show, check or remove what feeds need in their databases",
        description="What feeds need in their databases.  Nothing is changed without --apply.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in (
        ("install", "show the SQL that feeds need, or run it (--apply)"),
        ("show", "show what is there and how far behind it is"),
        ("check", "say in plain words what is wrong"),
        ("remove", "show the SQL that removes it all, or run it (--apply)"),
    ):
        _add_verb(verbs, verb, text)


def run(args: argparse.Namespace) -> int:
    """Run the verb for each feed of the configuration; the exit status: 0, 1 if something is wrong, 3 config."""
    try:
        config = load(Arguments(config_file=args.config_file))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    feeds = config.feeds
    wanted = [feed for feed in feeds if args.feed in (None, feed.name)]
    ingest = config.ingest
    if ingest is not None and (args.feed not in (None, ingest.database.name) or args.verb == "remove"):
        ingest = None  # tables that messages were written to stay
    market = config.market if args.verb in ("check", "show") else None
    titles = [] if market is None else [
        title for title, (feed, *_) in market_doctor.places(market).items() if args.feed in (None, feed.name)
    ]  # fmt: skip
    if not wanted and ingest is None and not titles:
        names = ", ".join(feed.name for feed in feeds) or "none"
        print(f"{args.config_file} has no feed {args.feed or 'at all'}; its feeds: {names}", file=sys.stderr)
        return EXIT_CONFIG
    verb: Callable[[FeedConfig, argparse.Namespace], int] = _VERBS[args.verb]
    codes = [verb(feed, args) for feed in wanted]
    codes += [_market(market, title, args) for title in titles if market is not None]
    return max([*codes, *([] if ingest is None else [_sinks(ingest, args)])])


def _add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], verb: str, text: str) -> None:
    parser = verbs.add_parser(
        verb,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config-file", type=Path, required=True, metavar="FILE", help="a .toml file")
    parser.add_argument("--feed", metavar="NAME", help="only this feed; by default all of the configuration")
    parser.add_argument(
        "--as", dest="admin_dsn", metavar="DSN", help="connect so, instead of as the feed's own role"
    )
    if verb in ("install", "remove"):
        parser.add_argument("--apply", action="store_true", help="run the SQL instead of showing it")
    if verb == "install":
        parser.add_argument(
            "--publishers",
            default="PUBLIC",
            metavar="ROLE",
            help="who may call rowcast.publish(); by default everybody who may connect",
        )
        parser.add_argument(
            "--widen",
            action="store_true",
            help="publish also columns and rows that a publication's list or filter has kept out until now",
        )
    if verb == "remove":
        parser.add_argument(
            "--schema", action="store_true", help="also drop the schema rowcast, of all feeds, with its rows"
        )


def _sinks(config: IngestConfig, args: argparse.Namespace) -> int:
    """The same verb for what messages are written to."""

    def examine(connection: psycopg.Connection[Any]) -> Iterable[Finding]:
        return sink_setup.examine(connection, config)

    if args.verb == "install":
        status = _show_or_apply(config.database, args, sink_setup.install_steps(config))
        return _with_what_is_left(status, config.database, args, examine)
    print(f"sinks of {config.database.name}")
    return _tell_findings(config.database, args, examine)


def _market(config: MarketConfig, title: str, args: argparse.Namespace) -> int:
    """What market data takes from a database, and keeps there."""
    print(title)
    feed = market_doctor.places(config)[title][0]
    return _tell_findings(feed, args, lambda connection: market_doctor.examine(connection, config, title))


def _tell_findings(
    feed: FeedConfig,
    args: argparse.Namespace,
    examine: Callable[[psycopg.Connection[Any]], Iterable[Finding]],
) -> int:
    try:
        with _connect(feed, args) as connection:
            findings = list(examine(connection))
    except psycopg.Error as error:
        return _tell_refusal(feed, args, error)
    for finding in findings:
        print(
            f"  {finding.level:7} {finding.text}"
            + (f"\n          cure: {finding.cure}" if finding.cure else "")
        )
    return EXIT_FAILED if any(finding.level == "wrong" for finding in findings) else EXIT_OK


def _tell_refusal(feed: FeedConfig, args: argparse.Namespace, error: psycopg.Error) -> int:
    print(f"  wrong   can't connect: {first_line(error)}")
    if cure := connection_cure(str(error), args.admin_dsn or feed.dsn):
        print(f"          cure: {cure}")
    return EXIT_FAILED


def _install(config: FeedConfig, args: argparse.Namespace) -> int:
    status = _show_or_apply(config, args, install_steps(config, args.publishers, args.widen))
    return _with_what_is_left(
        status, config, args, lambda connection: doctor.examine(connection, config).findings
    )


def _with_what_is_left(
    status: int,
    config: FeedConfig,
    args: argparse.Namespace,
    examine: Callable[[psycopg.Connection[Any]], Iterable[Finding]],
) -> int:
    """Name what no installation can do: settings of the server's, say, without which the feed refuses to start."""
    if not args.apply or status != EXIT_OK:
        return status
    try:
        with _connect_as(config.dsn) as connection:
            left = [finding for finding in examine(connection) if finding.level == "wrong"]
    except psycopg.Error as error:
        print(f"feed {config.name}: its own role can't connect: {first_line(error)}", file=sys.stderr)
        if cure := connection_cure(str(error), config.dsn):
            print(f"  cure: {cure}", file=sys.stderr)
        return status
    for finding in left:
        print(f"feed {config.name}: still wrong: {finding.text}\n  cure: {finding.cure}", file=sys.stderr)
    return status


def _remove(config: FeedConfig, args: argparse.Namespace) -> int:
    return _show_or_apply(config, args, remove_steps(config, args.schema))


def _show_or_apply(config: FeedConfig, args: argparse.Namespace, steps: list[Step]) -> int:
    if not args.apply:
        print(
            f"-- feed {config.name}, kind {config.kind}: {args.verb}.  Run statements one by one, or use --apply."
        )
        for step in steps:
            print(f"\n-- {step.purpose}\n{step.statement};")
        return EXIT_OK
    done: list[str] = []
    try:
        with _taking_turns(config, args), _connect(config, args) as connection:
            connection.add_notice_handler(lambda said: _tell(config, said))
            refused = dangers(connection, config) if args.verb == "install" else []
            for finding in refused:
                print(f"feed {config.name}: {finding.text}\n  cure: {finding.cure}", file=sys.stderr)
            if refused:
                print(f"feed {config.name}: nothing was changed", file=sys.stderr)
                return EXIT_FAILED
            for step in steps:
                with _naming_whom_we_wait_for(config, args, connection.info.backend_pid, step.purpose):
                    _apply(connection, step)
                done.append(step.purpose)
    except psycopg.Error as error:
        print(f"feed {config.name}: {str(error).strip()}", file=sys.stderr)
        if cure := connection_cure(str(error), args.admin_dsn or config.dsn):
            print(f"  cure: {cure}", file=sys.stderr)
        print(f"feed {config.name}: done before: {', '.join(done) or 'nothing'}", file=sys.stderr)
        print(f"feed {config.name}: run it again; what is done is left as it is", file=sys.stderr)
        return EXIT_FAILED
    word = "installed" if args.verb == "install" else "removed"
    print(f"feed {config.name}: {word}, {len(steps)} steps")
    return EXIT_OK


@contextmanager
def _taking_turns(config: FeedConfig, args: argparse.Namespace) -> Iterator[None]:
    """Two of these at once would make the same things, and one would fail: as two containers do that start together.

    The lock is a transaction's, on a connection of its own: so it holds behind a pooler, too, and no slot waits for it.
    """
    with _connect(config, args) as turn, turn.transaction():
        turn.execute(NO_TIMEOUTS)
        with _naming_whom_we_wait_for(config, args, turn.info.backend_pid, "its turn"):
            turn.execute("SELECT pg_advisory_xact_lock(%s)", [TURNS])
        yield


@contextmanager
def _naming_whom_we_wait_for(
    config: FeedConfig, args: argparse.Namespace, pid: int, purpose: str
) -> Iterator[None]:
    """A slot waits for open transactions, a trigger for whoever uses its table: say for whom, while it does."""
    over = threading.Event()

    def watch() -> None:
        pause_s = BLOCKED_FIRST_S
        while not over.wait(pause_s):
            pause_s = BLOCKED_AGAIN_S
            try:
                with _connect(config, args) as other:
                    rows = other.execute(BLOCKERS, [pid]).fetchall()
            except psycopg.Error:
                continue
            for row in rows:
                print(f"feed {config.name}: {purpose}: waits for {blocker_words(row)}", file=sys.stderr)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _tell(config: FeedConfig, said: psycopg.errors.Diagnostic) -> None:
    """Show what a step says it did; Postgres's own notices ("already exists, skipping") are of lower rank."""
    if said.severity_nonlocalized == "INFO":
        print(f"feed {config.name}: {said.message_primary}")


def _apply(connection: psycopg.Connection[Any], step: Step) -> None:
    try:
        connection.execute(step.statement)
    except psycopg.Error as error:
        raise psycopg.OperationalError(f"{step.purpose}: {str(error).strip()}{_cure_of(error)}") from error


def _cure_of(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return '\nname a role that may: --as "dbname=... user=..."'
    if isinstance(error, psycopg.errors.ObjectNotInPrerequisiteState) and "wal_level" in str(error):
        return f"\n{MADE_LOGICAL}"
    return ""


def _check(config: FeedConfig, args: argparse.Namespace) -> int:
    print(f"feed {config.name}, kind {config.kind}")
    try:
        with _connect(config, args) as connection:
            report = doctor.examine(connection, config)
    except psycopg.Error as error:
        return _tell_refusal(config, args, error)
    for finding in report.findings:
        print(f"  {finding.level:7} {finding.text}")
        if finding.cure:
            print(f"          cure: {finding.cure}")
    return EXIT_OK if report.is_healthy else EXIT_FAILED


def _show(config: FeedConfig, args: argparse.Namespace) -> int:
    print(f"feed {config.name}, kind {config.kind}")
    try:
        with _connect(config, args) as connection:
            for finding in doctor.examine(connection, config).findings:
                print(f"  {finding.text}")
    except psycopg.Error as error:
        print(f"feed {config.name}: {str(error).strip()}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _connect(config: FeedConfig, args: argparse.Namespace) -> psycopg.Connection[Any]:
    return _connect_as(args.admin_dsn or config.dsn)


def _connect_as(dsn: str) -> psycopg.Connection[Any]:
    # In UTF-8 also where the database's encoding is SQL_ASCII, whose texts would be bytes.
    return psycopg.connect(dsn, autocommit=True, application_name="rowcast feed", client_encoding="UTF8")


_VERBS = {"install": _install, "show": _show, "check": _check, "remove": _remove}
