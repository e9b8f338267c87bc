"""The text of an acl_file: what is taken, and what each mistake is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.rule_files import parse_acl

from broker.config.steps import BLOCK_BYTES, finished
from broker.gateway.acl_file import AclError, read_acl

COMMENTS = 2 * BLOCK_BYTES // 15


def test_windows_line_endings_and_spaces_are_taken() -> None:
    acl = parse_acl(b"user  roger rabbit \r\n topic   read   a b/c \r\n", "acl")
    access = acl.access(b"roger rabbit", b"client")
    assert access.may_read(b"a b/c")
    assert not access.may_write(b"a b/c")


def test_mistakes_come_all_at_once_with_their_lines() -> None:
    text = b"topic\nuser\ntopic reed a\ntopic a/#/b\n  # comment\nallow a\npattern write a+b/%u\n"
    with pytest.raises(AclError) as caught:
        parse_acl(text, "acl")
    assert [mistake.split(". ")[0] for mistake in caught.value.mistakes] == [
        'Error: Empty topic in acl_file "acl"',
        'Error: Missing username in acl_file "acl"',
        'Error: Invalid topic access type "reed" in acl_file "acl"',
        'Error: Invalid ACL topic "a/#/b" in acl_file "acl"',
        'Error: Invalid line in acl_file "acl": #',
        'Error: Invalid line in acl_file "acl": allow',
        'Error: Invalid ACL topic "a+b/%u" in acl_file "acl"',
    ]
    assert [f"Found at acl:{line}." in said for line, said in enumerate(caught.value.mistakes, 1)] == [
        True
    ] * 7


def test_a_pattern_that_is_none_is_warned_about() -> None:
    assert parse_acl(b"pattern read a/b\n", "acl").warnings == [
        "ACL pattern 'a/b' does not contain '%c' or '%u'. Found at acl:1."
    ]


def test_a_section_and_the_numbers_of_lines_go_on_over_the_steps_of_a_long_file(tmp_path: Path) -> None:
    comments = "# of a comment\n" * COMMENTS
    path = tmp_path / "rules"
    path.write_text(f"user u\n{comments}topic read a\n{comments}pattern b\n")
    steps = 0
    reading = read_acl(path, False)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            acl = end.value
            break
        steps += 1
    assert steps >= 3
    assert acl.access(b"u", b"c").may_read(b"a")
    assert acl.warnings[0].endswith(f"Found at {path}:{2 * COMMENTS + 3}.")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(AclError, match=r'Unable to open acl_file ".*nowhere"'):
        finished(read_acl(tmp_path / "nowhere", False))
