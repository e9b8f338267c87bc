"""`rowcast persistence`: looks into the file that outlives the broker, and moves what it holds, from Mosquitto too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from broker.cli.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.model import Config, ConfigError
from broker.storage.database import read_database, write_database
from broker.storage.errors import StorageError
from broker.storage.json_lines import lines
from broker.storage.json_reading import WrongLine, snapshot_of
from broker.storage.keeper import persistence_path
from broker.storage.mosquitto_import import read_mosquitto
from broker.storage.records import Snapshot
from protocol.mosquitto_db import MAGIC, NotReadable

_EPILOG: Final = """examples:
  rowcast persistence check /var/lib/rowcast/rowcast.db
  rowcast persistence export /var/lib/rowcast/rowcast.db > rowcast.jsonl
  rowcast persistence import rowcast.jsonl new/rowcast.db
  rowcast persistence import /var/lib/mosquitto/mosquitto.db -c /etc/mosquitto/mosquitto.conf

The broker that uses the file must be stopped, so must Mosquitto: each writes its file at its end.
"""
NAMED_MAX: Final = 20


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make `persistence` known to the command line."""
    parser = subparsers.add_parser(
        "persistence",
        help="check, export and import what outlives the broker",
        description="Look into the persistence file of a broker that is stopped, or make one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    check = _add(actions, "check", "say what a file holds, and whether all of it can be served")
    check.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the persistence file")
    export = _add(actions, "export", "write what a file holds as lines of JSON")
    export.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the persistence file")
    export.add_argument("-o", "--output", type=Path, metavar="OUT", help="default: standard output")
    import_ = _add(actions, "import", "make a file from such lines, or from a mosquitto.db of 1.6 to 2.1")
    import_.add_argument(
        "source", metavar="SOURCE", help="lines of JSON, or a mosquitto.db; - reads standard input"
    )
    import_.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the persistence file to make")


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c",
        "--config-file",
        type=Path,
        metavar="CONF",
        help="a configuration that says where the file is, and which mount points its listeners have",
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Do it.  Returns the exit status."""
    try:
        config = None if options.config_file is None else load(Arguments(config_file=options.config_file))
        if options.file is None:
            if config is None:
                print("rowcast persistence: name a FILE, or a configuration with -c", file=sys.stderr)
                return EXIT_CONFIG
            options.file = persistence_path(config.persistence)
        if options.action == "check":
            return _check(options.file)
        if options.action == "export":
            return _export(options.file, options.output)
        return _import(options.source, options.file, config)
    except ConfigError as error:
        print("\n".join(error.mistakes), file=sys.stderr)
        return EXIT_CONFIG
    except (StorageError, WrongLine, NotReadable) as error:
        print(error, file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the lines has had enough
    except OSError as error:
        print(f"{error.filename or options.file}: {error.strerror}", file=sys.stderr)
    return EXIT_FAILED


def _check(file: Path) -> int:
    saved, unfit = read_database(file)
    print(f"{file}: {_summary(saved)}")
    for why in unfit.damage:
        print(f"damaged: {why}")
    for why in [*unfit.messages.values(), *unfit.subscriptions.values()]:
        print(f"can't be served, and will be set aside: {why}")
    return EXIT_FAILED if unfit else EXIT_OK


def _export(file: Path, output: Path | None) -> int:
    saved, _ = read_database(file)
    with _writing(output) as out:
        for line in lines(saved):
            out.write(line + "\n")
    return EXIT_OK


def _import(source: str, file: Path, config: Config | None) -> int:
    data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    left_out: list[str] = []
    try:
        if data.startswith(MAGIC):
            saved_at = Path(source).stat().st_mtime if source != "-" else 0.0
            saved, left_out = read_mosquitto(data, saved_at, _mount_points(config))
        else:
            saved = snapshot_of(data.decode().splitlines())
    except UnicodeDecodeError:
        raise NotReadable(f"{source}: it is neither lines of JSON nor a mosquitto.db") from None
    except (WrongLine, NotReadable) as error:
        raise type(error)(f"{source}: {error}") from None
    write_database(file, saved)
    print(f"{file}: {_summary(saved)}")
    for what in left_out[:NAMED_MAX]:
        print(f"left out: {what}")
    if len(left_out) > NAMED_MAX:
        print(f"left out: {len(left_out) - NAMED_MAX} things more")
    return EXIT_OK


def _mount_points(config: Config | None) -> Mapping[int, bytes]:
    if config is None:
        return {}
    return {
        listener.port: listener.mount_point.encode() for listener in config.listeners if listener.mount_point
    }


def _summary(saved: Snapshot) -> str:
    counts = {
        "session": len(saved.sessions),
        "subscription": sum(len(record.subscriptions) for record in saved.sessions),
        "retained message": len(saved.retained),
        "queued message": sum(len(record.queued) for record in saved.sessions),
        "message": sum(len(record.inflight) for record in saved.sessions),
    }
    said = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    inbound = sum(len(record.inbound) for record in saved.sessions)
    return f"{', '.join(said)} in flight, {inbound} awaiting PUBREL"


@contextmanager
def _writing(output: Path | None) -> Iterator[TextIO]:
    """Where lines go; a file is private, since payloads may be anybody's secrets."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    output.touch(0o600)
    with output.open("w", encoding="utf-8") as out:
        yield out
