"""A TOML document's outer shape: which tables and arrays of tables it has."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from typing import Any

from broker.config.files import read_file
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, Unresolved, label

Document = Mapping[str, Any]

ENVIRONMENT = "env:"
FILE = "file:"
FILE_BYTES_MAX = 64 * 1024
"""No secret and no key is longer; a log that was named by mistake is."""


def tables_of(reader: Reader, document: Document, name: str) -> dict[str, Any]:
    """[name.KEY] by key; empty if there are none."""
    value = document.get(name, {})
    if isinstance(value, dict):
        return value
    reader.wrong((name,), f"{name}: tables are wanted, each as [{name}.NAME]")
    return {}


def array_of(reader: Reader, document: Document, *names: str) -> list[dict[str, Any]]:
    """[[name]] or [[name.name]]; empty if there are none, or something else."""
    value: Any = document
    for name in names:
        value = value.get(name, []) if isinstance(value, dict) else []
    if isinstance(value, list) and all(isinstance(table, dict) for table in value):
        return value
    reader.wrong(names, f"{names[-1]}: tables are wanted, each begun by [[{'.'.join(names)}]]")
    return []


def without_routes(document: Document, name: str) -> object:
    """A table with its own keys only: without routes and sinks."""
    table = document.get(name, {})
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if key not in ("route", "sink")}


def resolved(value: Any, environ: Mapping[str, str], reader: Reader, path: Path = ()) -> Any:
    """The document with each text `env:NAME` replaced by that environment variable, and `file:PATH` by that file."""
    if isinstance(value, dict):
        return {key: resolved(member, environ, reader, (*path, key)) for key, member in value.items()}
    if isinstance(value, list):
        return [resolved(member, environ, reader, (*path, index)) for index, member in enumerate(value)]
    if not isinstance(value, str):
        return value
    text = _text_of(value, environ, reader, path)
    if "\0" in text and not isinstance(text, Unresolved):
        # No path, address, connection string or topic can have one, and who uses them says so in other words or none.
        return reader.unresolved(path, "a NUL character is in it", text.replace("\0", ""))
    return text


def _text_of(value: str, environ: Mapping[str, str], reader: Reader, path: Path) -> str:
    if "\0" in value:
        return value
    if value.startswith(FILE):
        return _from_file(value, reader, path)
    if value.startswith(ENVIRONMENT):
        return _from_environment(value, environ, reader, path)
    return value


def _from_environment(value: str, environ: Mapping[str, str], reader: Reader, path: Path) -> str:
    name = value.removeprefix(ENVIRONMENT)
    if not name:
        return reader.unresolved(path, "env: needs the name of a variable behind it", value)
    if name not in environ:
        missing = f"there is no environment variable {name}: set it, or write the value here"
        return reader.unresolved(path, missing, value)
    text = environ[name]
    try:
        text.encode()
    except UnicodeEncodeError:  # other bytes come as halves of surrogate pairs
        return reader.unresolved(path, f"the environment variable {name} is not UTF-8 text", value)
    return text


def _from_file(value: str, reader: Reader, path: Path) -> str:
    """What a file holds, without the line break at its end; for secrets that something else puts there."""
    named = value.removeprefix(FILE)
    if not named:
        return reader.unresolved(path, "file: needs a path behind it", value)
    file = reader.folder / named
    try:
        data = read_file(file)
        is_public = file.stat().st_mode & stat.S_IROTH
        text = data.decode("utf-8-sig")
    except OSError as error:
        return reader.unresolved(path, f"{file} can't be read: {error.strerror}", value)
    except UnicodeDecodeError:
        return reader.unresolved(path, f"{file} is not UTF-8 text", value)
    if len(data) > FILE_BYTES_MAX:
        return reader.unresolved(path, f"{file} is longer than {FILE_BYTES_MAX} bytes", value)
    # What a container or systemd puts into /run is as they want it.
    if is_public and not file.is_relative_to("/run"):
        reader.warn(f"{reader.where(path)}: everybody may read {file}. Cure: `chmod o-rwx {file}`.")
    return text.removesuffix("\n").removesuffix("\r")


def places(value: object, reader: Reader, path: Path = ()) -> dict[tuple[str, str], str]:
    """Where each key with a text or number stands, the first one of several; a text also as the path that it may be."""
    members: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    elif isinstance(value, (str, int)):
        place = reader.where(path)
        return {(label(path), str(value)): place, (label(path), str(reader.folder / str(value))): place}
    found: dict[tuple[str, str], str] = {}
    for key, member in members:
        found = places(member, reader, (*path, key)) | found
    return found
