"""The command line as Mosquitto takes it, and its words for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.arguments import PORTS_MAX, Arguments, ArgumentsError, parse


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], Arguments()),
        (["-c", "a.conf"], Arguments(config_file=Path("a.conf"))),
        (["--config-file", "a.conf", "-d"], Arguments(config_file=Path("a.conf"), daemon=True)),
        (["--daemon"], Arguments(daemon=True)),
        (["-p", "1884"], Arguments(ports=(1884,))),
        (["--port", "1884", "-p", "1885"], Arguments(ports=(1884, 1885))),
        (["-v", "-q"], Arguments(verbose=True, quiet=True)),
        (["--verbose"], Arguments(verbose=True)),
        (["--quiet"], Arguments(quiet=True)),
        (["--test-config", "-c", "-d"], Arguments(test_config=True, config_file=Path("-d"))),
        (["--tls-keylog", "keys"], Arguments(tls_keylog=Path("keys"))),
        (["-h", "--nonsense"], Arguments(help=True)),
        (["--help"], Arguments(help=True)),
        (["--version", "--nonsense"], Arguments(version=True)),
    ],
)
def test_arguments_are_understood(words: list[str], meant: Arguments) -> None:
    assert parse(words) == meant


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p"], "Error: -p argument given, but no port specified."),
        (["--port"], "Error: -p argument given, but no port specified."),
        (["-p", "0"], "Error: Invalid port specified (0)."),
        (["-p", "-1"], "Error: Invalid port specified (-1)."),
        (["-p", "65536"], "Error: Invalid port specified (65536)."),
        (["-p", "mqtt"], "Error: Invalid port specified (mqtt)."),
        (["-c"], "Error: -c argument given, but no config file specified."),
        (["-c", "a", "-c", "b"], "Error: -c argument given twice. Name one file, and use include_dir in it."),
        (["--tls-keylog"], "Error: --tls-keylog argument given, but no file specified."),
        (["--unknown"], "Error: Unknown option '--unknown'."),
        (["-vq"], "Error: Unknown option '-vq'."),
        (["a.conf"], "Error: Unknown option 'a.conf'. A configuration is named by -c: rowcast -c a.conf"),
        (
            ["-p", "1"] * (PORTS_MAX + 1),
            f"Error: Only {PORTS_MAX} ports can be specified on the command line.",
        ),
    ],
)
def test_mistakes_are_told_in_mosquittos_words(words: list[str], said: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        parse(words)
    assert caught.value.mistake == said
    assert caught.value.show_usage == ("Unknown option" in said and "-c" not in said)
