"""Tables of a TOML document to attrs classes, strictly: unknown keys, wrong types and missing keys are mistakes.

A key is its attribute's name without the unit: `ping_interval_s` is written `ping_interval = "30s"`,
`lag_alarm_bytes` is `lag_alarm = "256MB"`.  Where a class gives one text or several, either may be written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from broker.config.toml.lines import Lines
from broker.config.toml.lines import Path as KeyPath
from protocol.mistakes import Mistake, mistake_at

T = TypeVar("T")

_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) *(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SECONDS_END = 10**18
"""TOML can write numbers that no float is, and `inf`."""
_SIZE = re.compile(r"([0-9]{1,18}) *(B|kB|MB|GB)")
_BYTES = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3}

Renames = Mapping[type, Mapping[str, str | None]]
"""For a class: attributes whose key is another one, or None for those that a document can't set."""


class Unresolved(str):
    """What stands for `env:NAME` when there is no such variable: that is one mistake and shall not be two."""


class Reader:
    """Reads one document and collects its mistakes.

    Args:
        file: as it shall be shown in messages; relative paths in the document start at its folder.
        lines: of the document.
        renames: see `Renames`.
    """

    def __init__(self, file: Path, lines: Lines, renames: Renames) -> None:
        self._file = file
        self._lines = lines
        self._renames = renames
        self._mistakes: list[tuple[int, str]] = []
        self.doubts: set[str] = set()
        """The tables of the document that have mistakes."""
        self.warnings: list[str] = []
        self._broken: set[KeyPath] = set()
        self._converter = _strict_converter(file.parent, renames)

    def structure(self, value: object, cls: type[T], path: KeyPath) -> T | None:
        """The table at `path` as a `cls`, with every mistake noted.

        Keys that are unknown or wrong are as if they weren't there, so that the rest can be checked, too; None
        if that leaves no `cls`.
        """
        try:
            return self._converter.structure(value, cls)
        except (cattrs.BaseValidationError, ValueError) as error:
            mistakes = list(self._explain(error, path, cls))
        for where, what in mistakes:
            self.wrong(where, what)
        self._broken.update(where for where, _ in mistakes)
        if not isinstance(value, dict):
            return None
        bad = {where[len(path)] for where, _ in mistakes if len(where) > len(path)}
        try:
            return self._converter.structure({key: value[key] for key in value if key not in bad}, cls)
        except cattrs.BaseValidationError:
            return None

    def wrong(self, path: KeyPath, what: str) -> None:
        """Note a mistake: what, and what would be right.  Not if it follows from another one."""
        if any(broken[: len(path)] == path for broken in self._broken):
            return
        self.doubts.add(str(path[0]) if path else "")
        mistake = (self._lines.of(path), what)
        if mistake not in self._mistakes:
            self._mistakes.append(mistake)

    def unresolved(self, path: KeyPath, what: str, value: str) -> Unresolved:
        """Note that a text refers to something that can't be had; what follows from that is no second mistake."""
        self.wrong(path, f"{label(path)}: {what}")
        self._broken.add(path)
        return Unresolved(value)

    def warn(self, what: str) -> None:
        """Note something that is no mistake but may surprise; each text once."""
        if what not in self.warnings:
            self.warnings.append(what)

    @property
    def folder(self) -> Path:
        """Where relative paths in the document start."""
        return self._file.parent

    def where(self, path: KeyPath) -> str:
        """A path's place, as `FILE:LINE`."""
        return f"{self._file}:{self._lines.of(path)}"

    def line_of(self, path: KeyPath) -> int:
        """The line of the file on which this key stands, or the table it is missing in."""
        return self._lines.of(path)

    def mistakes(self) -> list[Mistake]:
        """Every mistake as `FILE:LINE: what`, in the order of lines."""
        by_line = sorted(self._mistakes, key=lambda m: m[0])
        return [mistake_at(f"{self._file}:{line}", what) for line, what in by_line]

    def _explain(self, error: BaseException, path: KeyPath, cls: Any) -> Iterator[tuple[KeyPath, str]]:
        if isinstance(error, cattrs.BaseValidationError):
            for inner in error.exceptions:
                step, inner_cls = self._step(inner, error)
                yield from self._explain(inner, (*path, *step), inner_cls or cls)
        elif isinstance(error, ForbiddenExtraKeysError):
            known = sorted(keys_of(error.cl, self._renames))
            for key in sorted(error.extra_fields):
                inside = self._table_with(key, error.cl)
                table = ".".join(step for step in (*path, inside) if isinstance(step, str))
                yield (
                    (*path, key),
                    f"{key} belongs in [{table}]" if inside else unknown_key(key, known),
                )
        elif isinstance(error, KeyError):
            yield path[:-1], f"{path[-1]} is missing: add `{path[-1]} = ...`"
        else:
            yield path, f"{label(path)}: {error}"

    def _table_with(self, key: str, cls: type) -> str:
        """The name of the table in this one that takes the key; "" if there is none."""
        for attribute in attrs.fields(cls):
            for inner in (attribute.type, *get_args(attribute.type)):
                if isinstance(inner, type) and attrs.has(inner) and key in keys_of(inner, self._renames):
                    return _key(cls, attribute.name, self._renames)
        return ""

    def _step(self, inner: BaseException, outer: cattrs.BaseValidationError) -> tuple[KeyPath, Any]:
        """The key or index at which an error happened inside another, and the class that it is inside of."""
        for note in getattr(inner, "__notes__", ()):
            if isinstance(note, cattrs.AttributeValidationNote):
                return (_key(outer.cl, note.name, self._renames),), outer.cl
            if isinstance(note, cattrs.IterableValidationNote):
                return (note.index,), outer.cl
        return (), outer.cl


def label(path: KeyPath) -> str:
    """The key that a mistake is about."""
    return next((step for step in reversed(path) if isinstance(step, str)), "the document")


def unknown_key(key: str, known: list[str]) -> str:
    """The words for a key that nobody reads, with the name that may have been meant."""
    close = difflib.get_close_matches(key, known, n=1)
    meant = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"unknown key {key}: {meant}"


def keys_of(cls: type, renames: Renames) -> set[str]:
    """The keys that a table for `cls` may have."""
    return {
        _key(cls, attribute.name, renames)
        for attribute in attrs.fields(cls)
        if renames.get(cls, {}).get(attribute.name, "") is not None
    }


def _key(cls: type, name: str, renames: Renames) -> str:
    renamed = renames.get(cls, {}).get(name)
    if renamed:
        return renamed
    return name.removesuffix("_s").removesuffix("_bytes")


def _strict_converter(folder: Path, renames: Renames) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, lambda value, _: _exactly(value, bool, "true or false"))
    converter.register_structure_hook(int, lambda value, _: _exactly(value, int, "a whole number"))
    converter.register_structure_hook(
        float, lambda value, _: float(_exactly(value, (int, float), "a number"))
    )
    converter.register_structure_hook(str, lambda value, _: _exactly(value, str, "text in quotes"))
    converter.register_structure_hook(
        Path, lambda value, _: folder / _exactly(value, str, "a path in quotes")
    )
    converter.register_structure_hook_factory(_is_tuple, lambda cls: _tuple_hook(cls, converter))
    converter.register_structure_hook_factory(attrs.has, lambda cls: _class_hook(cls, converter, renames))
    return converter


def _class_hook(cls: type, converter: cattrs.Converter, renames: Renames) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(cls)
    overrides = {}
    for attribute in attrs.fields(cls):
        if renames.get(cls, {}).get(attribute.name, "") is None:
            overrides[attribute.name] = override(omit=True)
            continue
        hook = _unit_hook(attribute.name, attribute.type in (int, int | None))
        key = _key(cls, attribute.name, renames)
        overrides[attribute.name] = override(rename=key, struct_hook=hook) if hook else override(rename=key)
    structure: Any = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, **cast(Any, overrides)
    )

    def from_table(value: Any, _: Any) -> Any:
        return structure(_exactly(value, dict, "a table"), cls)

    return from_table


def _unit_hook(name: str, is_whole: bool) -> Callable[[Any, Any], Any] | None:
    if name.endswith("_s"):
        return _whole_duration if is_whole else _duration
    if name.endswith(("_bytes", "_bytes_max")):
        return _size
    return None


def _is_tuple(cls: Any) -> bool:
    return getattr(cls, "__origin__", None) is tuple


def _tuple_hook(cls: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """`tuple[T, ...]` from an array of T, or from one T."""
    array: Any = list[get_args(cls)[0]]  # type: ignore[misc]
    structure = converter.get_structure_hook(array)

    def from_array(value: Any, _: Any) -> Any:
        return tuple(structure(value if isinstance(value, list) else [value], array))

    return from_array


def _exactly(value: Any, cls: type | tuple[type, ...], wanted: str) -> Any:
    if isinstance(value, cls) and (cls is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{wanted} is wanted, not {_described(value)}")


def _described(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    names |= {list: "an array", dict: "a table"}
    return names.get(type(value), "a date or time")


def _duration(value: Any, _: Any) -> float:
    """Seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _SECONDS_END:
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration is wanted, such as "30s" (units: ms, s, m, h, d)')
    return float(match[1]) * _SECONDS[match[2]]


def _whole_duration(value: Any, _: Any) -> int:
    seconds = _duration(value, None)
    if seconds != int(seconds):
        raise ValueError('whole seconds are wanted, such as "30s"')
    return int(seconds)


def whole_duration(value: Any) -> int:
    """Seconds, as every key that is a duration takes them.

    Raises:
        ValueError: what is wanted.
    """
    return _whole_duration(value, None)


def _size(value: Any, _: Any) -> int:
    """Bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a size is wanted, such as "16MB" (units: B, kB, MB, GB)')
    return int(match[1]) * _BYTES[match[2]]
