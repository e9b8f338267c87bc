"""The command `rowcast demo`."""

from __future__ import annotations

import argparse
import math
import sys

from broker.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED

DESCRIPTION = """\
Starts a Postgres of its own with a simulated exchange in it, and Rowcast, and shows what an MQTT
client and a WebSocket client receive.  Everything runs on 127.0.0.1 and is removed at the end.
"""

EXAMPLE = """\
example:
  rowcast demo --rate 500           until Ctrl-C
  rowcast demo --example canton     another example: private channels, each client's own
  rowcast demo --example devices    MQTT into a table, and each committed row on to a browser
  rowcast demo --nodes 3            a cluster: a client moves, a node and a NATS server are killed
  rowcast demo --events 500         stops by itself; the last line is a summary in JSON; the exit
                                    status is 0 only if every message came exactly once
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rowcast demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="show it at work, with a Postgres and traffic of its own",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--events", type=_positive_count, metavar="N", help="stop after N committed rows that are sent on"
    )
    parser.add_argument(
        "--rate",
        type=_positive_rate,
        default=200.0,
        metavar="R",
        help="such rows per second (default: %(default)g)",
    )
    parser.add_argument(
        "--example",
        choices=["econia", "exchange", "canton", "devices"],
        default="econia",
        help="which of the examples to run (default: %(default)s)",
    )
    parser.add_argument(
        "--kind",
        choices=["wal", "outbox", "listen"],
        default="wal",
        help="how rows get to Rowcast: see docs/feeds.md (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the traders' choices (default: %(default)s)")
    parser.add_argument(
        "--nodes",
        type=_node_count,
        metavar="N",
        help="so many nodes on three NATS servers, 2 to 9; needs the extra `cluster`",
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON every second instead of the page")


def run(args: argparse.Namespace) -> int:
    """Run the demo until it ends or is ended; returns the exit status."""
    try:
        return _run(args)
    except KeyboardInterrupt:  # before anything had started, or a second time: while it was ending
        return EXIT_INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    # Here, so that no other command loads all this.
    import psycopg
    import trio

    from broker.demo.clients import ClientError
    from broker.demo.nodes.servers import ServerError
    from broker.demo.postgres import PostgresError
    from broker.demo.run import Options, demonstrate
    from broker.links.listening.accept import ListenError

    if args.kind == "listen" and args.example != "econia":
        print(
            "rowcast demo: only Econia's example has triggers that notify: --kind wal or outbox",
            file=sys.stderr,
        )
        return EXIT_FAILED
    options = Options(events=args.events, rate=args.rate, seed=args.seed, kind=args.kind, json=args.json)
    status, problems = EXIT_FAILED, []
    try:
        if args.nodes:
            from broker.demo.nodes.run import demonstrate as demonstrate_nodes

            status = trio.run(demonstrate_nodes, args.nodes, args.events, args.rate, args.json, sys.stdout)
        elif args.example == "econia":
            status = trio.run(demonstrate, options, sys.stdout)
        elif args.example == "devices":
            from broker.demo.devices.run import demonstrate as demonstrate_devices

            status = trio.run(demonstrate_devices, options, sys.stdout)
        else:
            from broker.demo.dialects.run import demonstrate as demonstrate_dialect

            status = trio.run(demonstrate_dialect, args.example, options, sys.stdout)
    except* KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except* (PostgresError, ClientError, ServerError, ListenError, psycopg.Error, OSError) as group:
        problems = _messages(group)
    for problem in problems:
        print(f"rowcast demo: {problem}", file=sys.stderr)
    return status


def _messages(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [message for inner in error.exceptions for message in _messages(inner)]
    return [str(error)]


def _positive_count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _node_count(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to 9")
    return int(text)


def _positive_rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate
