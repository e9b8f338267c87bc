"""`rowcast cluster status`: the nodes of a cluster, as one of them knows them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from broker.cli import ctl

EPILOG: Final = """\
example:
  rowcast cluster status -c shop.toml

It asks the node of that configuration, through its admin port ([admin]); what that node has heard of the others in the
last ten minutes is shown, and the exit status is 1 if one of them is silent or not ready.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rowcast cluster`."""
    parser = subparsers.add_parser(
        "cluster",
        help="the nodes of a cluster",
        description="The nodes of a cluster: leader, lag, clients and sessions of each.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser(
        "status",
        help="show all nodes",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = status.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "-c", "--config-file", type=Path, metavar="FILE", help="a node's configuration: port and token"
    )
    where.add_argument("--url", help="where its admin port is, as http://127.0.0.1:6789")
    status.add_argument("--token-file", type=Path, metavar="FILE", help="holds the token; else ROWCAST_TOKEN")
    status.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(options: argparse.Namespace) -> int:
    """Do what was asked for; the exit status."""
    options.action = "cluster"
    return ctl.run(options)
