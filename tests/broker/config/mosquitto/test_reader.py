"""Every mistake in mistakes/*.toml is told with its file, its line, Mosquitto's words and a cure."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def every_case() -> list[Any]:
    cases = []
    for path in sorted((Path(__file__).parent / "mistakes").glob("*.toml")):
        for case in tomllib.loads(path.read_text(encoding="utf-8"))["mistake"]:
            cases.append(pytest.param(case, id=case["name"]))
    return cases


def write_files(case: dict[str, Any]) -> None:
    Path("main.conf").write_bytes(case["conf"].encode(case.get("encoding", "utf-8")))
    for name, text in case.get("files", {}).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, newline="")


def test_at_least_80_mistakes_are_listed() -> None:
    assert len(every_case()) >= 80


@pytest.mark.parametrize("case", every_case())
def test_mistake_is_told_with_file_line_and_cure(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(case)
    with pytest.raises(ConfigError) as caught:
        load(Path("main.conf"), environment={})
    assert list(caught.value.mistakes) == [
        f"Error: {told['text']} Found at {told['file']}:{told['line']}. {told['cure']}"
        for told in case["expected"]
    ]
    assert all(told["cure"] for told in case["expected"])


@pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="no Mosquitto to ask")
@pytest.mark.parametrize("case", [case for case in every_case() if case.values[0].get("mosquitto")])
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
