"""Where each key of a TOML document stands: tomllib gives the values, this gives their lines.

Only for text that tomllib has accepted, so nothing is checked here.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]
"""Keys, and indexes of arrays: `("mqtt", "route", 0, "qos")`."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|'
    r"'''.*?'{3,5}(?!')|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]\}\n#]*")


class Lines:
    """The line of every path of a document, counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._read_document()

    def of(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it that stands in the text."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _read_document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._read_header(2)
            elif self._text.startswith("[", self._at):
                table = self._read_header(1)
            else:
                self._read_pair(table)

    def _read_header(self, brackets: int) -> Path:
        line = self._line()
        self._at += brackets
        keys = self._read_key()
        self._at += brackets
        path = self._resolve(keys if brackets == 1 else keys[:-1])
        if brackets == 2:
            array = (*path, keys[-1])
            index = self._arrays[array] = self._arrays.get(array, -1) + 1
            self._lines.setdefault(array, line)
            path = (*array, index)
        self._note(path, line)
        return path

    def _resolve(self, keys: Path) -> Path:
        """Keys of a header to a path: a name of an array of tables means its last element."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _read_pair(self, table: Path) -> None:
        line = self._line()
        path = table + self._read_key()
        self._skip(_SPACE)
        self._at += 1  # =
        self._note(path, line)
        self._read_value(path)

    def _read_value(self, path: Path) -> None:
        self._skip(_SPACE)
        opening = self._text[self._at]
        if opening == "[":
            self._read_array(path)
        elif opening == "{":
            self._read_inline_table(path)
        elif opening in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _read_array(self, path: Path) -> None:
        index = 0
        self._at += 1
        while self._text[self._skip(_BLANK)] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, index), self._line())
            self._read_value((*path, index))
            index += 1
        self._at += 1

    def _read_inline_table(self, path: Path) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._read_pair(path)
        self._at += 1

    def _read_key(self) -> Path:
        keys: list[str | int] = []
        while True:
            start = self._skip(_SPACE)
            if self._text[start] in "\"'":
                quoted = self._text[start : self._skip(_STRING)]
                keys.append(tomllib.loads(f"key = {quoted}")["key"])
            else:
                keys.append(self._text[start : self._skip(_BARE_KEY)])
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return tuple(keys)
            self._at += 1

    def _note(self, path: Path, line: int) -> None:
        """A path and what it is in: `a.b = 1` also says where `a` is."""
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        """Move behind what matches here; where that is."""
        match = pattern.match(self._text, self._at)
        assert match is not None, self._at
        self._at = match.end()
        return self._at
