"""What the command line says over a configuration."""

from __future__ import annotations

from broker.config.arguments import Arguments
from broker.config.model import Config, Listener, Logging, Security
from broker.config.mosquitto.special import every_log_type
from broker.config.overrides import overridden

SILENT = Logging(log_type=("error",))


def test_without_a_listener_it_listens_on_loopback_for_anybody_as_mosquitto() -> None:
    (listener,) = overridden(Config(()), Arguments()).listeners
    assert (listener.port, listener.local_only, listener.security.allow_anonymous) == (1883, True, True)
    ports = [one.port for one in overridden(Config(()), Arguments(ports=(1, 2))).listeners]
    assert ports == [1, 2]


def test_a_listener_of_the_file_stands_against_p() -> None:
    config = Config((Listener(5, security=Security()),))
    assert overridden(config, Arguments(ports=(1,))).listeners == config.listeners


def test_q_goes_before_v_and_both_before_the_file() -> None:
    config = Config((Listener(5, security=Security()),), logging=SILENT)
    assert overridden(config, Arguments()).logging.log_type == ("error",)
    assert overridden(config, Arguments(verbose=True)).logging.log_type == every_log_type()
    assert overridden(config, Arguments(verbose=True, quiet=True)).logging.log_type == ()
