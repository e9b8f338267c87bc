"""Lines are found: each value of the document below is the number of the line on which it stands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from broker.config.toml.lines import Lines, Path

DOCUMENT = '''# a comment = 0
top = 2
"quoted key" = 3
'literal # key' = 4
dotted . key."with.dot" = 5
[table] # = 99
number = 7      # [not.a.table]
text = "8"      # "
inline = { a = 9, "b.c" = { d = 9 }, e = [9, 9] }
array = [10, 10,
  11, # ] 0
  [ 12,
    13 ],
  { x = 14 },
]
brackets = [ "16", '16', """16""", [] ]
[table.sub . "x"]
key = 18
[[many]]
a = 20
[many.sub]
b = 22
[[many.inner]]
c = 24
[[many.inner]]
c = 26
[[many]]
a = 28
[[many.inner]]
c = 30
[ "after ] bracket" ]
k = 32
'''

STRINGS = r'''a = """
[x] # " "" \""" ]
k = 1 """
after = 4
b = \'\'\'
it's [y] \'\'\'
after_b = 7
c = "\\"
after_c = 9
d = """"quoted"""" # four
after_d = 11
'''.replace("\\'\\'\\'", "'''")


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, int]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
    else:
        yield path, int(value)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_value_is_found_on_its_line(newline: str) -> None:
    document = DOCUMENT.replace("\n", newline)
    lines = Lines(document)
    found = list(leaves(tomllib.loads(document)))
    assert len(found) > 25
    for path, line in found:
        assert lines.of(path) == line, path


def test_strings_that_look_like_tables_hide_nothing() -> None:
    lines = Lines(STRINGS)
    values = tomllib.loads(STRINGS)
    for name in ("after", "after_b", "after_c", "after_d"):
        assert lines.of((name,)) == values[name]


def test_what_does_not_stand_in_the_text_is_where_it_would_belong() -> None:
    lines = Lines(DOCUMENT)
    assert lines.of(("table", "missing")) == 6
    assert lines.of(("many", 1, "missing", "deeper")) == 27
    assert lines.of(("many", 7)) == 19
    assert lines.of(("nowhere",)) == 1
    assert Lines("").of(("x",)) == 1
