"""A configuration by its file's name."""

from __future__ import annotations

import os

from broker.config.arguments import Arguments
from broker.config.model import Config


def load(arguments: Arguments) -> Config:
    """The configuration that the arguments name: TOML by its suffix, otherwise a mosquitto.conf.

    Raises:
        ConfigError: every mistake of it.
    """
    path = arguments.config_file
    if path is not None and path.suffix == ".toml":
        from broker.config.overrides import overridden
        from broker.config.toml import configuration as toml

        return overridden(toml.load(path, os.environ), arguments)
    from broker.config.mosquitto import configuration as mosquitto_conf

    return mosquitto_conf.load(path, arguments)
