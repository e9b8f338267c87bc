"""Lines of mosquitto.conf: what is about what, and every mistake with its file, its line and a cure."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.conf_mistakes import LISTS, cases_of, check, write_files

from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
EVERY_CASE = cases_of(*(path.stem for path in LISTS.glob("*.toml")))


def test_at_least_80_mistakes_are_listed() -> None:
    assert len(EVERY_CASE) >= 80


@pytest.mark.parametrize("case", cases_of("files", "listeners"))
def test_mistake_is_told_with_file_line_and_cure(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(case)


@pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="no Mosquitto to ask")
@pytest.mark.parametrize("case", [case for case in EVERY_CASE if case.values[0].get("mosquitto")])
def test_mosquitto_itself_says_so_too(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(case)
    run = subprocess.run(
        [MOSQUITTO, "-c", "main.conf"], capture_output=True, text=True, timeout=90, check=False
    )
    said = without_quotes(run.stderr)
    assert run.returncode != 0
    assert any(without_quotes(f"Error: {told['text']}") in said for told in case["expected"]), run.stderr


def without_quotes(text: str) -> str:
    return text.replace("'", "").replace('"', "")


def test_all_mistakes_of_all_files_come_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf.d").mkdir()
    Path("conf.d/a.conf").write_text("nonsense 1\n")
    Path("main.conf").write_text("sys_interval x\ninclude_dir conf.d\nlistener 1883\nmax_qos 3\n")
    with pytest.raises(ConfigError) as caught:
        load(Path("main.conf"))
    places = [mistake.split(" Found at ")[1].split(". ")[0] for mistake in caught.value.mistakes]
    assert places == ["main.conf:1", "conf.d/a.conf:1", "main.conf:4"]


def test_a_listener_that_is_wrong_still_owns_the_lines_below_it(tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text("listener 100000\nmount_point a/\nwebsockets_origin http://b\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(caught.value.mistakes) == 1


def test_a_file_of_another_kind_gives_a_thousand_mistakes_and_a_count(tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text("".join(f"word{number} 1\n" for number in range(5000)))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(caught.value.mistakes) == 1001
    assert caught.value.mistakes[-1] == "Error: 4000 more mistakes."


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.conf"
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == (
        f"Error: Unable to open config file '{path}'. Found at {path}. No such file or directory."
    )


@pytest.mark.parametrize("name", ["allow_anonymos", "listner", "acl_fil", "certfil", "protocl", "include_di"])
def test_a_line_that_may_have_been_meant_to_let_clients_in_is_remembered(tmp_path: Path, name: str) -> None:
    path = tmp_path / "main.conf"
    path.write_text(f"listener 1883\n{name} true\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.may_open_doors


@pytest.mark.parametrize("line", ["sys_interval x", "max_queued_mesages 5", "log_dest nowhere"])
def test_one_that_was_not_lets_the_rest_be_used(tmp_path: Path, line: str) -> None:
    path = tmp_path / "main.conf"
    path.write_text(f"listener 1884\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert not caught.value.may_open_doors
    assert caught.value.config is not None
    assert [listener.port for listener in caught.value.config.listeners] == [1884]


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("listner 1883", "Did you mean `listener`?"),
        (" #comment", "The # of a comment must be the first character of its line."),
        ("port=1883", "Put one space between the name and its value, as `listener 1883`."),
        ("port\t1883", "Put one space between the name and its value, as `listener 1883`."),
        ("zzzzzz 1", "Delete the line, or see docs/mosquitto-conf.md for what may stand there."),
    ],
)
def test_a_word_that_nobody_knows_brings_the_one_that_was_meant(tmp_path: Path, name: str, cure: str) -> None:
    path = tmp_path / "main.conf"
    path.write_text(f"port 1883\n{name}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).endswith(f"Found at {path}:2. {cure}")
