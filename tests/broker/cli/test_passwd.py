"""`rowcast passwd` leaves a file that Rowcast and Mosquitto read, or the file as it was."""

from __future__ import annotations

import argparse
import getpass
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.cli import passwd as passwd_command
from broker.gateway.passwords import read_passwords

Passwd = Callable[..., int]


@pytest.fixture
def passwd() -> Passwd:
    parser = argparse.ArgumentParser()
    passwd_command.add_parser(parser.add_subparsers())

    def call(*words: object) -> int:
        args = parser.parse_args(["passwd", *map(str, words)])
        return int(args.run(args))

    return call


def test_a_new_file_is_private_and_holds_the_user(passwd: Passwd, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    assert passwd("-c", "-b", path, "roger", "secret") == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_passwords(path)[b"roger"].verify(b"secret")
    assert path.read_text().startswith("roger:$7$1000$")


@pytest.mark.parametrize(
    ("options", "start"),
    [(["-H", "sha512"], "$6$"), (["-I", "30000"], "$7$30000$"), (["-H", "argon2id"], "$argon2id$")],
)
def test_the_hash_is_the_one_that_is_asked_for(
    passwd: Passwd, tmp_path: Path, options: list[str], start: str
) -> None:
    path = tmp_path / "passwords"
    assert passwd(*options, "-c", "-b", path, "u", "p") == 0
    assert path.read_text().startswith("u:" + start)
    assert read_passwords(path)[b"u"].verify(b"p")


def test_users_are_added_changed_and_deleted_and_the_rest_is_kept(passwd: Passwd, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("# our users\n")
    path.chmod(0o640)
    for user, password in (("a", "1"), ("b", "2"), ("a", "3")):
        assert passwd("-b", path, user, password) == 0
    users = read_passwords(path)
    assert users[b"a"].verify(b"3")
    assert users[b"b"].verify(b"2")
    assert passwd("-D", path, "a") == 0
    assert list(read_passwords(path)) == [b"b"]
    assert path.read_text().startswith("# our users\nb:")
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["passwords"]


def test_a_user_added_below_a_line_without_end_stands_on_its_own(passwd: Passwd, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    assert passwd("-c", "-b", path, "a", "1") == 0
    path.write_text(path.read_text().rstrip("\n"))
    assert passwd("-b", path, "b", "2") == 0
    assert list(read_passwords(path)) == [b"a", b"b"]


def test_a_plain_text_file_is_hashed_once(passwd: Passwd, tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("# users\n\na:1\nb: 2 \n")
    assert passwd("-U", path) == 0
    hashed = path.read_text()
    users = read_passwords(path)
    assert users[b"a"].verify(b"1")
    assert users[b"b"].verify(b"2")
    assert passwd("-U", path) == 0
    assert path.read_text() == hashed


def test_the_password_is_asked_for_twice(
    passwd: Passwd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ["one", "one", "one", "two", ""]
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    path = tmp_path / "passwords"
    assert passwd("-c", path, "a") == 0
    assert read_passwords(path)[b"a"].verify(b"one")
    assert passwd(path, "a") == 1
    assert "Passwords do not match" in capsys.readouterr().err
    assert passwd(path, "a") == 1
    assert "Empty password" in capsys.readouterr().err
    assert read_passwords(path)[b"a"].verify(b"one")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-c", "-D", "FILE", "a"], "-c and -D cannot be used together."),
        (["-c", "-U", "FILE"], "-c and -U cannot be used together."),
        (["-D", "-U", "FILE"], "-D and -U cannot be used together."),
        (["-b", "-D", "FILE", "a"], "-b and -D cannot be used together."),
        (["-I", "0", "-b", "FILE", "a", "b"], "Number of iterations must be > 0."),
        (["-b", "FILE", "a"], "Give password file, username, password after the options"),
        (["FILE"], "Give password file, username after the options"),
        (["-U"], "Give password file after the options"),
        (["-b", "FILE", "a:b", "p"], "Username must not contain the ':' character."),
        (["-b", "FILE", "a\x07", "p"], "contain control characters."),
        (["-b", "FILE", "", "p"], "Username must not be empty"),
        (["-D", "FILE", "nobody"], "User nobody not found in password file."),
        (["-U", "PLAIN"], "Corrupt password file at line 2."),
        (["-b", "NOWHERE", "a", "b"], "Unable to open password file"),
    ],
)
def test_a_mistake_changes_nothing(
    passwd: Passwd, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("FILE", "PLAIN", "NOWHERE")}
    places["FILE"].write_text("# nothing\n")
    places["PLAIN"].write_text("a:1\nb:\n")
    assert passwd(*(places.get(word, word) for word in words)) == 1
    assert said in capsys.readouterr().err
    assert places["FILE"].read_text() == "# nothing\n"
    assert places["PLAIN"].read_text() == "a:1\nb:\n"
    assert sorted(os.listdir(tmp_path)) == ["FILE", "PLAIN"]


def test_where_nobody_can_type_the_password_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("")
    command = [sys.executable, "-m", "broker", "passwd", str(path), "ada"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == 1
    assert "give it by -b" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == ""


def test_a_file_that_is_missing_is_said_before_the_password_is_asked_for(
    passwd: Passwd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda _: pytest.fail("asked"))
    assert passwd(tmp_path / "nowhere", "ada") == 1
    assert "Make a new one with -c." in capsys.readouterr().err
