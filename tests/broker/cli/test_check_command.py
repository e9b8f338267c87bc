"""`rowcast check` as a command: one line a mistake, in the order of the file, then how many, and its status."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.main import main

GOOD = "[security]\nallow_anonymous = true\n[[listener]]\nport = {}\n"


def check(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], list[str]]:
    path.write_text(text)
    status = main(["check", "-c", str(path)])
    said = capsys.readouterr()
    return (
        status,
        said.out.replace(str(path), "FILE").splitlines(),
        said.err.replace(str(path), "FILE").splitlines(),
    )


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        (GOOD.format(1883), "FILE is fine: 1 listener, 0 feeds"),
        (GOOD.format(1883) + "[[listener]]\nport = 1884\n", "FILE is fine: 2 listeners, 0 feeds"),
    ],
)
def test_what_is_fine_says_what_there_is(
    tmp_path: Path, text: str, fine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = check(tmp_path / "c.toml", text, capsys)
    assert (status, err) == (0, [])
    assert out == [fine]


def test_mistakes_stand_in_the_order_of_the_file_whoever_finds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That two ports are the same is found after all else was read."""
    text = GOOD.format(1883) + '[admin]\nport = 1883\n[logging]\nlog_type = ["eror"]\n'
    status, out, err = check(tmp_path / "c.toml", text, capsys)
    assert (status, out) == (3, [])
    assert err[-1] == "2 mistakes in FILE"
    assert [line.partition(": ")[0] for line in err[:-1]] == ["FILE:6", "FILE:8"]


def test_a_file_that_is_named_and_missing_is_told_beside_the_text_s_own_mistakes_once_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.format(70_000).replace("[[listener]]", 'password_file = "nowhere"\n[[listener]]')
    status, _, err = check(tmp_path / "c.toml", text, capsys)
    assert status == 3
    assert [line.partition(": ")[0] for line in err] == ["FILE:3", "FILE:5", "2 mistakes in FILE"]
    text += '[persistence]\npersistence = true\npersistence_location = "nowhere"\n'
    assert check(tmp_path / "c.toml", text, capsys)[2][-1] == "3 mistakes in FILE"


def test_one_mistake_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = check(tmp_path / "c.toml", GOOD.format(70_000), capsys)
    assert status == 3
    assert len(err) == 2
    assert err[-1] == "1 mistake in FILE"


def test_a_file_that_is_not_there_is_one_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(tmp_path / "nowhere.toml")]) == 3
    assert "1 mistake in" in capsys.readouterr().err


def test_a_mosquitto_conf_is_checked_too_and_its_warnings_are_no_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = check(tmp_path / "mosquitto.conf", "listener 1883\nallow_anonymous true\n", capsys)
    assert status == 0
    assert out == ["FILE is fine: 1 listener, 0 feeds"]
    assert all(line.startswith("Warning: ") for line in err)
    status, _, err = check(tmp_path / "mosquitto.conf", "listener 0x\n", capsys)
    assert status == 3
    assert err[-1] == "1 mistake in FILE"
