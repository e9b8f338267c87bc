"""What the command line says over a configuration that is not a mosquitto.conf."""

from __future__ import annotations

from attrs import evolve

from broker.config.arguments import PORT_DEFAULT, Arguments
from broker.config.model import Config, Listener, Logging, Security
from broker.config.mosquitto.special import every_log_type


def overridden(config: Config, arguments: Arguments) -> Config:
    """-q and -v for the log; -p where the file defines no listener: loopback only, anonymous, as Mosquitto."""
    config = evolve(config, logging=logging_as_typed(config.logging, arguments))
    if config.listeners:
        return config
    security = Security(allow_anonymous=True)
    ports = arguments.ports or (PORT_DEFAULT,)
    listeners = tuple(Listener(port, security=security, local_only=True) for port in ports)
    return evolve(config, listeners=listeners)


def logging_as_typed(logging: Logging, arguments: Arguments) -> Logging:
    """The log, with -q and -v over it."""
    if arguments.quiet:
        return evolve(logging, log_type=())
    return evolve(logging, log_type=every_log_type()) if arguments.verbose else logging
