"""What is no file keeps nobody waiting: the mistake names it, at the start and on SIGHUP."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.config.files import check_file, read_file
from broker.config.model import Security
from broker.config.mosquitto.configuration import load
from broker.gateway.authentication import RulesError, load_rules
from broker.gateway.passwords import PasswordFileError, read_passwords


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe", 0o600)
    return folder / "pipe"


@pytest.mark.parametrize("read", [read_file, check_file])
def test_a_pipe_and_a_device_are_no_files(read: Callable[[Path], object], tmp_path: Path) -> None:
    for path in (pipe(tmp_path), Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="a pipe or a device"):
            read(path)
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere")


def test_a_file_is_read_whole_and_a_pipe_where_it_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    assert read_file(tmp_path / "file") == b"text"
    ours, theirs = os.pipe()
    os.write(theirs, b"text")
    os.close(theirs)
    assert read_file(Path(f"/dev/fd/{ours}"), may_be_pipe=True) == b"text"
    os.close(ours)


def test_rules_are_not_read_from_a_pipe(tmp_path: Path) -> None:
    path = pipe(tmp_path)
    with pytest.raises(PasswordFileError, match="a pipe or a device"):
        read_passwords(path)
    for security in (Security(password_file=path), Security(acl_file=path)):
        with pytest.raises(RulesError, match="a pipe or a device"):
            load_rules([security])


def test_nor_is_what_a_configuration_includes(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    os.mkfifo(tmp_path / "more" / "a.conf")
    (tmp_path / "rowcast.conf").write_text(f"include_dir {tmp_path}/more\n")
    with pytest.raises(Exception, match="a pipe or a device"):
        load(tmp_path / "rowcast.conf")
