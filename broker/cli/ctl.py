"""`rowcast ctl`: asks a running Rowcast through its admin port, and acts on it."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from attrs import field, frozen

from broker.cli.cluster_table import is_silent, show_cluster
from broker.cli.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from broker.cli.tables import print_table
from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.model import Config, ConfigError
from protocol.mistakes import Mistake

TIMEOUT_S: Final = 30.0
ANYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""What to connect to where a server listens on every address."""

EPILOG: Final = """\
examples:
  rowcast ctl -c shop.toml status
  rowcast ctl -c shop.toml clients --search ada
  rowcast ctl -c shop.toml kick ada-laptop
  rowcast ctl -c shop.toml retained --clear prices/BTC
  rowcast ctl --url http://broker:6789 --token-file token feeds
"""

_NO_ADMIN: Final = "{} has no [admin] with a port: add one, or use --url"


class CtlError(Exception):
    """What went wrong, in words."""


@frozen
class Target:
    """Where to ask, and with which token."""

    host: str
    port: int
    token: str = field(default="", repr=False)

    def ask(self, path: str, body: object = None) -> Any:
        """The JSON answer to a GET, or with a body to a POST.  Raises: CtlError."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise CtlError(f"no answer from {self.host}, port {self.port}: {why}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise CtlError("\n".join(answer.get("mistakes", ())) or str(answer.get("error", response.reason)))
        return answer


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rowcast ctl` and its commands."""
    parser = subparsers.add_parser(
        "ctl",
        help="ask a running Rowcast, and act on it",
        description="Ask a running Rowcast through its admin port ([admin] in its configuration), and act on it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_place(parser, None)
    parser.set_defaults(json=False, refuse=parser.error)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("health", help="/healthz, for a container: status 0 if the process does its work")
    actions.add_parser("status", help="how it is; status 1 if it is not ready")
    clients = actions.add_parser("clients", help="who is connected")
    clients.add_argument("--search", default="", help="part of a client's name, user or address")
    clients.add_argument("--slow", action="store_true", help="those that are owed most first")
    kick = actions.add_parser("kick", help="disconnect a client")
    kick.add_argument("client", help="an MQTT client's id, or a WebSocket client's ADDRESS:PORT")
    subscriptions = actions.add_parser("subscriptions", help="topic filters, and how many subscribed to each")
    subscriptions.add_argument("--search", default="", help="part of a filter")
    retained = actions.add_parser("retained", help="retained messages; or clear one")
    retained.add_argument("--search", default="", help="part of a topic")
    retained.add_argument("--clear", metavar="TOPIC", help="clear the message of this topic")
    feeds = actions.add_parser("feeds", help="the databases: state, lag, gaps")
    feeds.add_argument(
        "--acknowledge", metavar="FEED", help="take note of its gaps, so that /readyz is green"
    )
    actions.add_parser("cluster", help="the nodes of its cluster; status 1 if one is not ready")
    actions.add_parser("reload", help="read the configuration again; status 1 if that is not possible")
    actions.add_parser("drain", help="ask clients to go elsewhere, then end, as SIGTERM does")
    for action in (clients, subscriptions, retained):
        action.add_argument(
            "--limit", type=int, default=100, help="at most so many (default 100, up to 1000)"
        )
        action.add_argument("--offset", type=int, default=0, help="leave out so many")
    for action in actions.choices.values():
        action.epilog, action.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
        _add_place(action, argparse.SUPPRESS)


def _add_place(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Options of whom to ask, and how: people write them before the action as well as behind it."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-c",
        "--config-file",
        type=Path,
        default=default,
        metavar="FILE",
        help="the running one's configuration: port and token",
    )
    where.add_argument("--url", default=default, help="where its admin port is, as http://127.0.0.1:6789")
    parser.add_argument(
        "--token-file", type=Path, default=default, metavar="FILE", help="holds the token; else ROWCAST_TOKEN"
    )
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print the answer as JSON"
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked for; the exit status."""
    if (options.config_file is None) == (options.url is None):
        options.refuse("-c FILE or --url URL is wanted, one of them")
    try:
        target = _target(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except (OSError, CtlError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_CONFIG
    try:
        answer = _ASKED[options.action](target, options)
    except CtlError as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_FAILED
    if options.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _SHOWN.get(options.action, _done)(answer)
    if options.action == "cluster":
        return EXIT_FAILED if any(is_silent(one) or one["unready"] for one in answer["nodes"]) else EXIT_OK
    return EXIT_FAILED if options.action == "status" and not answer["ready"] else EXIT_OK


def _target(options: argparse.Namespace) -> Target:
    token = os.environ.get("ROWCAST_TOKEN", "")
    if options.config_file is not None:
        config = _read(options.config_file)
        if config.admin is None or not config.admin.port:
            raise CtlError(_NO_ADMIN.format(options.config_file))
        host = ANYWHERE.get(config.admin.host, config.admin.host)
        target = Target(host, config.admin.port, token or "".join(config.admin.token[:1]))
    else:
        parts = urlsplit(options.url if "://" in options.url else f"http://{options.url}")
        if parts.scheme != "http" or not parts.hostname:
            raise CtlError("--url: http://HOST:PORT is wanted")
        target = Target(parts.hostname, parts.port or 80, token)
    if options.token_file is not None:
        target = Target(target.host, target.port, options.token_file.read_text().strip())
    return target


def _read(path: Path) -> Config:
    """The running one's configuration; what its service has in its environment need not be known here.

    Raises: ConfigError: what is wrong hides [admin].
    """
    try:
        return load(Arguments(config_file=path))
    except ConfigError as error:
        if error.config is None:
            raise
        if error.config.admin is None:
            raise ConfigError(*error.mistakes, Mistake(_NO_ADMIN.format(path))) from None
        return error.config


def _health(target: Target, _: argparse.Namespace) -> Any:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        text = response.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise CtlError(f"no answer from {target.host}, port {target.port}: {error}") from None
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise CtlError(text)
    return {"health": text}


def _query(options: argparse.Namespace, **more: str) -> str:
    return urlencode({"search": options.search, "limit": options.limit, "offset": options.offset, **more})


def _clients(target: Target, options: argparse.Namespace) -> Any:
    return target.ask(f"clients?{_query(options, sort='owed' if options.slow else '')}")


def _kick(target: Target, options: argparse.Namespace) -> Any:
    try:
        return target.ask("clients/kick", {"client": options.client})
    except CtlError:
        if ":" not in options.client:
            raise
    return target.ask("clients/kick", {"peer": options.client})


def _retained(target: Target, options: argparse.Namespace) -> Any:
    if options.clear is not None:
        return target.ask("retained/clear", {"topic": options.clear})
    return target.ask(f"retained?{_query(options)}")


def _feeds(target: Target, options: argparse.Namespace) -> Any:
    if options.acknowledge is not None:
        return target.ask("feeds/acknowledge", {"feed": options.acknowledge})
    return target.ask("feeds")


_ASKED: Final[dict[str, Callable[[Target, argparse.Namespace], Any]]] = {
    "health": _health,
    "status": lambda target, _: target.ask("overview"),
    "clients": _clients,
    "kick": _kick,
    "subscriptions": lambda target, options: target.ask(f"subscriptions?{_query(options)}"),
    "retained": _retained,
    "feeds": _feeds,
    "cluster": lambda target, _: target.ask("cluster"),
    "reload": lambda target, _: target.ask("reload", {}),
    "drain": lambda target, _: target.ask("drain", {}),
}


# --- for people ------------------------------------------------------------------------------------------------


def _done(_: Any) -> None:
    print("done")


def _show_status(answer: Any) -> None:
    sys_values = answer["sys"]
    print(f"rowcast {answer['version']}, {answer['build']}, since {answer['started']}")
    print("ready" if answer["ready"] else "not ready:")
    for reason in answer["reasons"]:
        print(f"  {reason}")
    connected, total = sys_values["clients/connected"], sys_values["clients/total"]
    print(f"clients {connected} connected, {total} known; owed {answer['owed']['total']} bytes")
    for one in answer["listeners"]:
        print(f"listener {one['listener']} ({one['protocol']}): {one['connections']} connections")
    for name, count in answer["dialects"].items():
        print(f"websocket {name}: {count} connections")
    for feed in answer["feeds"]:
        print(_feed_line(feed))


def _show_clients(answer: Any) -> None:
    rows = [
        (
            one["client"] or "-",
            one["user"] or "-",
            one["peer"] if one["connected"] else "away",
            one["protocol"],
            one["subscriptions"],
            one["queued"],
            one["owed_bytes"],
        )
        for one in answer["clients"]
    ]
    print_table(("CLIENT", "USER", "ADDRESS", "SPEAKS", "SUBSCRIPTIONS", "QUEUED", "OWED"), rows)
    _show_rest(answer, len(rows))


def _show_subscriptions(answer: Any) -> None:
    rows = [(one["filter"], one["subscribers"], one["qos"]) for one in answer["subscriptions"]]
    print_table(("FILTER", "SUBSCRIBERS", "QOS"), rows)
    _show_rest(answer, len(rows))


def _show_retained(answer: Any) -> None:
    if "retained" not in answer:
        _done(answer)
        return
    rows = [
        (one["topic"], one["bytes"], one.get("payload", one.get("payload_base64"))[:80])
        for one in answer["retained"]
    ]
    print_table(("TOPIC", "BYTES", "PAYLOAD"), rows)
    _show_rest(answer, len(rows))


def _show_feeds(answer: Any) -> None:
    if "feeds" not in answer:
        print(f"acknowledged up to gap {answer['gaps']}")
        return
    for feed in answer["feeds"]:
        print(_feed_line(feed))
        for trouble in filter(None, (feed["problem"], *feed["troubles"])):
            print(f"  {trouble}")
        if feed["gap"]:
            print(f"  gap {feed['gaps']} at {feed['gap']['at']}: {feed['gap']['reason']}")
    if not answer["feeds"]:
        print("no feeds")


def _feed_line(feed: Any) -> str:
    return (
        f"feed {feed['feed']}: {feed['state']} since {feed['since']}, {feed['lag_s']:.1f} s and"
        f" {feed['lag_bytes']} bytes behind, {feed['received']} received, {feed['published']} published,"
        f" {feed['gaps']} gaps"
    )


_SHOWN: Final[dict[str, Callable[[Any], None]]] = {
    "status": _show_status,
    "clients": _show_clients,
    "subscriptions": _show_subscriptions,
    "retained": _show_retained,
    "feeds": _show_feeds,
    "cluster": show_cluster,
}


def _show_rest(answer: Any, shown: int) -> None:
    rest = answer["total"] - answer["offset"] - shown
    if rest > 0:
        print(f"and {rest} more: --offset {answer['offset'] + shown}")
