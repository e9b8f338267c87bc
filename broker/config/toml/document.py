"""A TOML document's outer shape: which tables and arrays of tables it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.config.toml.reader import Reader, Unresolved

Document = Mapping[str, Any]

ENVIRONMENT = "env:"


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
    """A table with its own keys only."""
    table = document.get(name, {})
    return (
        {key: value for key, value in table.items() if key != "route"} if isinstance(table, dict) else table
    )


def resolved(value: Any, environ: Mapping[str, str], reader: Reader, path: tuple[str | int, ...] = ()) -> Any:
    """The document with each text `env:NAME` replaced by that environment variable."""
    if isinstance(value, dict):
        return {key: resolved(member, environ, reader, (*path, key)) for key, member in value.items()}
    if isinstance(value, list):
        return [resolved(member, environ, reader, (*path, index)) for index, member in enumerate(value)]
    if not isinstance(value, str) or not value.startswith(ENVIRONMENT):
        return value
    name = value.removeprefix(ENVIRONMENT)
    if name in environ:
        return environ[name]
    reader.wrong(
        path, f"{path[-1]}: there is no environment variable {name}: set it, or write the value here"
    )
    return Unresolved(value)
