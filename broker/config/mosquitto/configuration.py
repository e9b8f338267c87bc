"""mosquitto.conf to `Config`, as Mosquitto 2.1 understands it, with all mistakes of the file told at once.

`reader` reads the lines, `special` and `refused` the words that need more than the table in
`options`, `build` puts the result together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve

from broker.config.arguments import Arguments
from broker.config.model import Config, ConfigError
from broker.config.mosquitto.build import build
from broker.config.mosquitto.reader import Reader
from broker.config.mosquitto.special import SPECIALS
from protocol.mistakes import Mistake


def load(
    path: Path | None, arguments: Arguments | None = None, environment: Mapping[str, str] = os.environ
) -> Config:
    """Read the file and what it includes.

    Args:
        path: the main file; None is Mosquitto's default: loopback only, port 1883, anonymous clients.
        arguments: what the command line says: ports for when the file defines no listener, -v, -q, --tls-keylog.
        environment: MOSQUITTO_PERSISTENCE_LOCATION is looked up in it.

    Raises:
        ConfigError: with every mistake, each `Error: what is wrong Found at FILE:LINE. What would be right.`
    """
    arguments = evolve(arguments or Arguments(), config_file=path)
    reader = Reader(SPECIALS)
    if path is not None:
        reader.read(path)
    config = build(reader, arguments, environment.get("MOSQUITTO_PERSISTENCE_LOCATION"))
    if reader.mistakes_left_out:
        reader.mistakes.append(Mistake(f"Error: {reader.mistakes_left_out} more mistakes."))
    if reader.mistakes:
        raise ConfigError(*reader.mistakes, config=config, may_open_doors=reader.may_open_doors)
    return config
