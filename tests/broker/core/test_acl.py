"""What an acl_file allows: sections, patterns, denials, mistakes; and that the quick answers equal the obvious ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rule_files import parse_acl

from broker.core.acl import DECISION_BYTES, DECISIONS_BYTES_MAX, Subject
from protocol.mqtt.topics import matches

FILE = b"""\
# Everybody without a name
topic read public/#
topic $SYS/broker/uptime

user roger
topic foo/bar
topic read market/+/price
topic write orders/roger
topic deny foo/bar/secret
topic readwrite foo/bar/#

user other
topic deny #

pattern readwrite device/%c/state
pattern read account/%u/#
pattern deny account/%u/keys
"""


def ask(text: bytes, user: bytes | None, topic: bytes, client: bytes = b"c1") -> str:
    access = parse_acl(text, "acl").access(user, client)
    return ("r" if access.may_read(topic) else "") + ("w" if access.may_write(topic) else "")


@pytest.mark.parametrize(
    ("user", "topic", "allowed"),
    [
        (None, b"public/a/b", "r"),
        (None, b"public", "r"),
        (None, b"foo/bar", ""),
        (None, b"$SYS/broker/uptime", "rw"),
        (None, b"$SYS/broker/version", ""),
        (None, b"device/c1/state", "rw"),
        (None, b"device/c2/state", ""),
        (b"roger", b"public/a", ""),
        (b"roger", b"foo/bar", "rw"),
        (b"roger", b"foo/bar/open", "rw"),
        (b"roger", b"foo/bar/secret", ""),
        (b"roger", b"market/3/price", "r"),
        (b"roger", b"market/3/4/price", ""),
        (b"roger", b"orders/roger", "w"),
        (b"roger", b"account/roger/balance", "r"),
        (b"roger", b"account/roger/keys", ""),
        (b"roger", b"account/other/balance", ""),
        (b"roger", b"device/c1/state", "rw"),
        (b"other", b"account/other/balance", ""),
        (b"unknown", b"foo/bar", ""),
        (b"unknown", b"account/unknown/balance", "r"),
    ],
)
def test_who_may_do_what(user: bytes | None, topic: bytes, allowed: str) -> None:
    assert ask(FILE, user, topic) == allowed


@pytest.mark.parametrize("text", [b"", b"# nothing\n#topic #\n", b"\n\n"])
def test_a_file_that_allows_nothing_forbids_everything(text: bytes) -> None:
    assert ask(text, None, b"a") == ask(text, b"roger", b"a") == ""


def test_dollar_topics_must_be_named() -> None:
    assert ask(b"topic #\n", None, b"$SYS/broker/uptime") == ""
    assert ask(b"topic +/broker/uptime\n", None, b"$SYS/broker/uptime") == ""
    assert ask(b"topic $SYS/#\n", None, b"$SYS/broker/uptime") == "rw"


def test_only_a_whole_level_of_a_pattern_is_filled_in() -> None:
    assert ask(b"pattern a/%c/b\n", None, b"a/c1/b") == "rw"
    assert ask(b"pattern a/%count/b\n", None, b"a/c1ount/b") == ""
    assert ask(b"pattern a/x%c/b\n", None, b"a/xc1/b") == ""
    assert ask(b"pattern %c/%c/%u/%u\n", b"u", b"c1/c1/u/u") == "rw"


def test_a_pattern_with_a_user_name_is_not_for_anonymous_clients() -> None:
    assert ask(b"pattern a/%u/b\n", None, b"a//b") == ""
    assert ask(b"pattern a/%u/b\n", b"", b"a//b") == "rw"


@pytest.mark.parametrize(("user", "client"), [(b"+", b"c"), (b"a#", b"c"), (b"u", b"#"), (None, b"x+")])
def test_a_wildcard_in_name_or_id_shuts_patterns_but_not_own_rules(user: bytes | None, client: bytes) -> None:
    own = b"topic own\n" if user is None else b"user " + user + b"\ntopic own\n"
    text = own + b"pattern free/%c\npattern all/#\n"
    assert ask(text, user, b"own", client) == "rw"
    assert ask(text, user, b"all/x", client) == ""


LEVELS = st.sampled_from([b"a", b"b", b"", b"$s"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=3).map(b"/".join).filter(bool)
FILTERS = st.one_of(
    st.lists(st.one_of(LEVELS, st.just(b"+")), min_size=1, max_size=3).map(b"/".join).filter(bool),
    st.lists(st.one_of(LEVELS, st.just(b"+")), max_size=2).map(lambda levels: b"/".join([*levels, b"#"])),
)
ACCESS = st.sampled_from([b"read", b"write", b"readwrite", b"deny"])


@given(
    rules=st.lists(st.tuples(ACCESS, FILTERS), max_size=6), topics=st.lists(TOPICS, min_size=1, max_size=8)
)
def test_the_quick_answer_is_the_obvious_one(rules: list[tuple[bytes, bytes]], topics: list[bytes]) -> None:
    text = b"".join(b"topic %s %s\n" % rule for rule in rules)
    acl = parse_acl(text, "acl")
    subject = Subject(None, b"c")
    for topic in (*topics, *topics):  # twice: decided, then remembered
        hits = [access for access, topic_filter in rules if matches(topic_filter, topic)]
        may_read = b"deny" not in hits and (b"read" in hits or b"readwrite" in hits)
        may_write = b"deny" not in hits and (b"write" in hits or b"readwrite" in hits)
        assert (acl.may_read(subject, topic), acl.may_write(subject, topic)) == (may_read, may_write)


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    access = parse_acl(b"topic read a/#\n", "acl").access(None, b"client")
    for number in range(2000):
        assert access.may_read(b"a/%d" % number)
        assert not access.may_write(b"x" * 60_000 + b"%d" % number)
        assert not access.may_write(b"x" * 900 + b"%d" % number)
        kept = [*access._readable, *access._writable]
        assert sum(len(topic) + DECISION_BYTES for topic in kept) <= DECISIONS_BYTES_MAX
    assert access._readable
