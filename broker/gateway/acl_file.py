"""acl_file: the text of access rules.  What they mean is `broker.core.acl`'s.

A long file is read in steps, so that others have their turns meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from broker.config.files import read_in_steps
from broker.config.steps import Steps, blocks_of_lines
from broker.core.acl import DENY, READ, WRITE, Acl, Rule
from protocol.mistakes import Mistake, Mistaken, mistake_found_at
from protocol.mqtt.topics import is_valid_topic_filter

_ACCESS: Final = {b"read": READ, b"write": WRITE, b"readwrite": READ | WRITE, b"deny": DENY}


class AclError(Mistaken):
    """Every mistake of an acl_file, each as `Error: … Found at FILE:LINE. …`."""


def read_acl(path: Path, names_have_slashes: bool) -> Steps[Acl]:
    """The rules of that file.

    Raises:
        AclError: also where the file cannot be read.
    """
    try:
        text = yield from read_in_steps(path)
    except OSError as error:
        said = f'Error: Unable to open acl_file "{path}". {error.strerror}.'
        raise AclError(Mistake(said, option=("acl_file", str(path)))) from None
    return (yield from acl_in_steps(text, str(path), names_have_slashes))


def acl_in_steps(text: bytes, file: str, names_have_slashes: bool) -> Steps[Acl]:
    """The rules of a text; `file` is its name, for messages, `names_have_slashes` as for `Acl`.

    Raises:
        AclError: with every mistake.
    """
    reader = _Reader(file, names_have_slashes)
    for first, lines in blocks_of_lines(text):
        if first > 1:
            yield
        for number, line in enumerate(lines, first):
            reader.take(number, line)
    if reader.mistakes:
        raise AclError(*reader.mistakes)
    return reader.acl


class _Reader:
    """Lines in, rules out."""

    def __init__(self, file: str, names_have_slashes: bool) -> None:
        self.acl = Acl(names_have_slashes)
        self.mistakes: list[str] = []
        self._file = file
        self._rules = self.acl.anonymous

    def take(self, number: int, line: bytes) -> None:
        if line.startswith(b"#") or not line.strip():
            return
        word, _, rest = line.strip().partition(b" ")
        try:
            self._take(number, word, rest)
        except ValueError as wrong:
            said, cure = wrong.args
            self.mistakes.append(mistake_found_at(f"{self._file}:{number}", said, cure))

    def _take(self, number: int, word: bytes, rest: bytes) -> None:
        file, acl = self._file, self.acl
        if word == b"user":
            self._rules = acl.users.setdefault(_user_name(rest, file), [])
        elif word == b"topic":
            self._rules.append(_rule(rest, file))
        elif word == b"pattern":
            acl.patterns.append(_pattern(rest, file, number, acl.warnings))
        else:
            said = f'Invalid line in acl_file "{file}": {_shown(word)}.'
            raise ValueError(said, "Begin it with `user`, `topic` or `pattern`, or with # as a comment.")


def _user_name(rest: bytes, file: str) -> bytes:
    name = rest.strip()
    if not name:
        raise ValueError(f'Missing username in acl_file "{file}".', "Write `user NAME`.")
    return name


def _rule(rest: bytes, file: str) -> Rule:
    first, _, second = rest.lstrip(b" ").partition(b" ")
    if not first:
        raise ValueError(f'Empty topic in acl_file "{file}".', "Write `topic read a/b`, for example.")
    topic_filter = second.strip() or first
    if second.strip() and first not in _ACCESS:
        raise ValueError(
            f'Invalid topic access type "{_shown(first)}" in acl_file "{file}".',
            "Write read, write, readwrite or deny in front of the topic.",
        )
    if not is_valid_topic_filter(topic_filter):
        raise ValueError(
            f'Invalid ACL topic "{_shown(topic_filter)}" in acl_file "{file}".',
            "A + stands for a whole level, a # for all that is left, at the end only.",
        )
    return Rule(topic_filter, _ACCESS[first] if second.strip() else READ | WRITE)


def _pattern(rest: bytes, file: str, number: int, warnings: list[str]) -> Rule:
    rule = _rule(rest, file)
    if b"%c" not in rule.topic_filter and b"%u" not in rule.topic_filter:
        shown = _shown(rule.topic_filter)
        warnings.append(f"ACL pattern '{shown}' does not contain '%c' or '%u'. Found at {file}:{number}.")
    return rule


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")
