"""The commands that do one thing and end: each is found by its word, and only that one is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from broker.cli.commands import COMPLETE, MODULES, run_command
from broker.cli.main import main


@pytest.mark.parametrize("name", MODULES)
def test_each_command_has_a_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: rowcast {name}")


def test_what_the_shell_asks_for_is_one_word_a_line_and_in_no_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command([COMPLETE]) == 0
    words = capsys.readouterr().out.split()
    assert set(MODULES) <= set(words)
    assert COMPLETE not in words


def test_the_status_of_a_command_is_that_of_the_program(tmp_path: object) -> None:
    assert main(["check", "-c", f"{tmp_path}/nowhere.toml"]) == 3


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        ("check", "rowcast check: error: the following arguments are required: -c/--config-file"),
        ("check -c a.conf b.conf", "rowcast check: error: unrecognized arguments: b.conf"),
        ("demo extra", "rowcast demo: error: unrecognized arguments: extra"),
        ("ctl kick", "rowcast ctl kick: error: the following arguments are required: client"),
        ("ctl status", "rowcast ctl: error: -c FILE or --url URL is wanted"),
        ("ctl -c a.toml status --url b", "rowcast ctl: error: -c FILE or --url URL is wanted"),
        ("feed instal", "rowcast feed: error: argument verb: invalid choice: 'instal'"),
        ("token", "rowcast token: error: the following arguments are required: -c"),
    ],
)
def test_words_that_are_wrong_end_with_the_status_of_a_mistake_and_say_where_an_example_is(
    words: str, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(words.split())
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith(f"usage: rowcast {words.split()[0]}")
    assert mistake in said
    assert said.endswith(f"An example is at the end of `rowcast {words.split()[0]} --help`.\n")


def test_nothing_of_the_others_is_imported() -> None:
    script = (
        "import sys; from broker.cli.commands import MODULES, run_command\n"
        "try: run_command(['passwd', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name, module in MODULES.items() if module in sys.modules], 'psycopg' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "['passwd'] False"
