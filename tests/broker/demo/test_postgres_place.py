"""Where the demo's server listens: nowhere else, and by the same words for the server, clients and psql."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from broker.demo.postgres_place import PYTHON, SHELL, Place, is_unix

UNIX, LOOPBACK = Place(Path("/tmp/d")), Place(Path("/tmp/d"), 5555)


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("", True), ("0", True), ("1", False)])
def test_tests_may_say_that_there_are_no_unix_sockets(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool
) -> None:
    monkeypatch.delenv("ROWCAST_PORTABLE", raising=False)
    if value is not None:
        monkeypatch.setenv("ROWCAST_PORTABLE", value)
    assert is_unix() == expected
    place = Place.choose(Path("/tmp/d"))
    assert (place.port == 0) == expected


def test_a_socket_in_the_folder_is_the_only_way_in() -> None:
    assert UNIX.address == "host=/tmp/d"
    assert UNIX.psql_options == "-h /tmp/d"
    assert UNIX.settings == ("listen_addresses=", "unix_socket_directories=/tmp/d")


def test_or_a_port_of_loopback_is() -> None:
    assert LOOPBACK.address == "host=127.0.0.1 port=5555"
    assert LOOPBACK.psql_options == "-h 127.0.0.1 -p 5555"
    assert LOOPBACK.settings == ("listen_addresses=127.0.0.1", "port=5555", "unix_socket_directories=")


def test_a_supervisor_is_given_everything_as_arguments() -> None:
    binaries = Path("/usr/lib/pg")
    shell = UNIX.command(binaries, {"user": 5}, ("fsync=off",))
    assert shell[:6] == ["/bin/sh", "-c", SHELL, "rowcast-postgres", "/usr/lib/pg", "/tmp/d"]
    assert shell[6:] == ["-D", "/tmp/d/data", "-c", "fsync=off", *with_c(UNIX.settings)]
    python = LOOPBACK.command(binaries, {"user": 5, "group": 6}, ("fsync=off",))
    assert python[:7] == [sys.executable, "-c", PYTHON, "/usr/lib/pg", "/tmp/d", "5", "6"]
    assert python[7:] == ["-c", "fsync=off", *with_c(LOOPBACK.settings)]
    assert LOOPBACK.command(binaries, {}, ())[5:7] == ["", ""]


def with_c(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("-c", setting)]


def test_ctrl_c_is_ours_and_the_account_the_shell_s_or_the_supervisor_s() -> None:
    assert UNIX.options({"user": 5}) == {"start_new_session": True, "cwd": "/", "user": 5}
    assert LOOPBACK.options({"user": 5}) == {"start_new_session": True, "cwd": "/"}
