"""What the shells are offered; and that their scripts are valid where the shell is there to say so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from broker.cli.complete import next_words

SCRIPTS = Path(__file__).parents[3] / "packaging" / "completion"


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ([], {"check", "ctl", "demo", "feed", "passwd", "-c", "-d", "--take-over", "--help"}),
        (["-c", "a.toml"], {"-v", "--test-config"}),
        (["ctl"], {"clients", "kick", "drain", "-c", "--url"}),
        (["ctl", "-c", "a.toml", "clients"], {"--search", "--slow", "--limit"}),
        (["feed"], {"install", "check", "show", "remove"}),
        (["check"], {"-c", "--config-file", "--help"}),
    ],
)
def test_commands_and_options_are_offered(words: list[str], some: set[str]) -> None:
    assert some - set(next_words(words)) == set()


def test_commands_are_not_offered_behind_options() -> None:
    assert "ctl" not in next_words(["-c", "a.toml"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_valid(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    checked = subprocess.run([shell, "-n", SCRIPTS / f"rowcast.{shell}"], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "rowcast").write_text("#!/bin/sh\nprintf 'clients\\nkick\\n'\n")
    (tmp_path / "rowcast").chmod(0o755)
    script = (
        f"PATH={tmp_path}:$PATH; . {SCRIPTS}/rowcast.bash; COMP_WORDS=(rowcast ctl cl); COMP_CWORD=2;"
        " _rowcast; echo ${COMPREPLY[@]}"
    )
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=90)
    assert said.stdout == "clients\n"
