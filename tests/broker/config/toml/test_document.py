"""What stands elsewhere: `env:` and `file:`, every way in which it can be missing or unfit; and the outer shape."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.toml_files import noted, reader_of

from broker.config.toml.document import FILE_BYTES_MAX, array_of, places, resolved, tables_of, without_routes
from broker.config.toml.reader import Unresolved


def test_texts_are_replaced_wherever_they_stand_and_others_are_not() -> None:
    reader = reader_of()
    document = {"a": ["env:X", {"b": "env:X"}], "c": "see env:X", "d": 5, "e": True}
    assert resolved(document, {"X": "env:Y", "Y": "no"}, reader) == {
        "a": ["env:Y", {"b": "env:Y"}], "c": "see env:X", "d": 5, "e": True,
    }  # fmt: skip
    assert reader.mistakes() == []


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("env:NOT", "there is no environment variable NOT: set it, or write the value here"),
        ("env:", "env: needs the name of a variable behind it"),
        ("env:LATIN", "the environment variable LATIN is not UTF-8 text"),
        ("file:", "file: needs a path behind it"),
        ("file:none", "{folder}/none can't be read: No such file or directory"),
        ("file:.", "{folder} can't be read: Is a directory"),
        ("file:latin", "{folder}/latin is not UTF-8 text"),
        ("file:long", f"{{folder}}/long is longer than {FILE_BYTES_MAX} bytes"),
        ("file:a\0b", "a NUL character is in it"),
        ("file:nul", "a NUL character is in it"),
        ("a\0b", "a NUL character is in it"),
    ],
)
def test_what_can_t_be_had_is_one_mistake(tmp_path: Path, value: str, what: str) -> None:
    (tmp_path / "latin").write_bytes(b"\xe9")
    (tmp_path / "long").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    (tmp_path / "nul").write_bytes(b"a\0b")
    for name in ("latin", "long", "nul"):
        (tmp_path / name).chmod(0o600)
    reader = reader_of(folder=tmp_path)
    found = resolved({"key": [value]}, {"LATIN": os.fsdecode(b"\xe9")}, reader)
    assert noted(reader) == ["key: " + what.format(folder=tmp_path)]
    assert type(found["key"][0]) is Unresolved
    reader.wrong(("key", 0), "key: there is no such file")
    assert len(reader.mistakes()) == 1, "a mistake that follows from another"
    assert reader.warnings == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b"\xef\xbb\xbfsecret \n", "secret "),
        (b"x" * FILE_BYTES_MAX, "x" * FILE_BYTES_MAX),
        (b"", ""),
    ],
)
def test_a_file_gives_its_text_without_its_last_line_break(tmp_path: Path, data: bytes, text: str) -> None:
    file = tmp_path / "s"
    file.write_bytes(data)
    file.chmod(0o640)
    reader = reader_of(folder=tmp_path)
    assert resolved("file:s", {}, reader, ("key",)) == text
    assert (reader.mistakes(), reader.warnings) == ([], [])


def test_a_file_that_everybody_may_read_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("secret")
    (tmp_path / "s").chmod(0o644)
    reader = reader_of("a = 1\nkey = 2\n", tmp_path)
    assert resolved("file:s", {}, reader, ("key",)) == "secret"
    place, file = f"{tmp_path}/rowcast.toml:2", tmp_path / "s"
    assert reader.warnings == [f"{place}: everybody may read {file}. Cure: `chmod o-rwx {file}`."]


@pytest.mark.parametrize(
    ("document", "names", "expected"),
    [
        ({}, ("mqtt", "route"), []),
        ({"mqtt": {}}, ("mqtt", "route"), []),
        ({"mqtt": 5}, ("mqtt", "route"), []),  # said where [mqtt] is read
        ({"mqtt": {"route": [{"a": 1}]}}, ("mqtt", "route"), [{"a": 1}]),
        ({"listener": [{"a": 1}, {}]}, ("listener",), [{"a": 1}, {}]),
    ],
)
def test_arrays_of_tables(document: dict[str, Any], names: tuple[str, ...], expected: list[object]) -> None:
    reader = reader_of()
    assert array_of(reader, document, *names) == expected
    assert reader.mistakes() == []


@pytest.mark.parametrize("written", [{}, 5, [5], [{}, 5]])
def test_another_shape_is_said_to_be_wrong_with_what_to_write(written: object) -> None:
    reader = reader_of()
    assert array_of(reader, {"mqtt": {"route": written}}, "mqtt", "route") == []
    assert noted(reader) == ["route: tables are wanted, each begun by [[mqtt.route]]"]


def test_tables_with_names() -> None:
    reader = reader_of()
    assert tables_of(reader, {"source": {"a": {}}}, "source") == {"a": {}}
    assert tables_of(reader, {}, "source") == {}
    assert reader.mistakes() == []
    assert tables_of(reader, {"source": []}, "source") == {}
    assert noted(reader) == ["source: tables are wanted, each as [source.NAME]"]


def test_routes_and_sinks_are_left_out_of_their_table() -> None:
    assert without_routes({"mqtt": {"qos": 1, "route": [], "sink": []}}, "mqtt") == {"qos": 1}
    assert without_routes({"mqtt": 5}, "mqtt") == 5
    assert without_routes({}, "mqtt") == {}


def test_a_place_is_found_by_key_and_text_and_by_the_path_that_the_text_may_be() -> None:
    reader = reader_of("a = 'x'\n[b]\na = 'x'\nfiles = ['y', 5]\n")
    found = places({"a": "x", "b": {"a": "x", "files": ["y", 5]}, "c": 1.5}, reader)
    assert found == {
        ("a", "x"): "/etc/rowcast.toml:1",
        ("a", "/etc/x"): "/etc/rowcast.toml:1",
        ("files", "y"): "/etc/rowcast.toml:4",
        ("files", "/etc/y"): "/etc/rowcast.toml:4",
        ("files", "5"): "/etc/rowcast.toml:4",
        ("files", "/etc/5"): "/etc/rowcast.toml:4",
    }
