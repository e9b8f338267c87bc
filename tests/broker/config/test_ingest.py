"""The two languages of a sink: topic patterns, held against topic filters, and where a value comes from."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.ingest import Expression, check_name, parse_call, parse_expression, parse_pattern
from protocol.mqtt.topics import matches

levels = st.sampled_from(("a", "b.c", "", "ü", "a\n"))
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
patterns = st.tuples(
    st.lists(st.sampled_from(("a", "b.c", "+", "{one}", "{two}", "ü")), min_size=1, max_size=3, unique=True),
    st.sampled_from(("", "/#", "/{rest...}")),
).map(lambda drawn: "/".join(drawn[0]) + drawn[1])


@given(patterns, topics)
def test_a_pattern_matches_what_its_filter_does_and_names_the_levels(text: str, topic: str) -> None:
    pattern = parse_pattern(text)
    found = pattern.regex.fullmatch(topic)
    assert (found is not None) == matches(pattern.topic_filter, topic.encode())
    if found is not None:
        written = topic.split("/")
        wanted = [
            ("/".join(written[at:]) if at < len(written) else None) if level.endswith("...}") else written[at]
            for at, level in enumerate(text.split("/"))
            if level.startswith("{")
        ]
        assert list(found.groups()) == wanted


def test_names_are_those_of_the_levels_in_their_order() -> None:
    pattern = parse_pattern("t/{b}/+/{a}/{rest...}")
    assert (pattern.topic_filter, pattern.names) == (b"t/+/+/+/#", ("b", "a", "rest"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a/{x}/{x}", "{x} stands twice: give each level a name of its own"),
        ("{rest...}/a", "{rest...} takes all levels that are left, so it must be the last one"),
        ("a/x{b}", "x{b}: a name takes a whole level, such as {device}"),
        ("a/{1b}", "{1b}: a name takes a whole level, such as {device}"),
        ("a/}", "}: a name takes a whole level, such as {device}"),
        ("$SYS/#", "topics that begin with $ are the broker's own"),
        ("", '"" is no topic filter: levels between /, + for any, # only at the end'),
        ("a/#/b", '"a/#/b" is no topic filter: levels between /, + for any, # only at the end'),
        ("a/b+", '"a/b+" is no topic filter: levels between /, + for any, # only at the end'),
    ],
)
def test_what_is_no_pattern(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$", Expression("$", ())),
        ("$.a", Expression("$.a", ("a",))),
        ("$.a-b[0].c", Expression("$.a-b[0].c", ("a-b", 0, "c"))),
        ("$[12][3]", Expression("$[12][3]", (12, 3))),
        ("$.at ms", Expression("$.at ms", ("at",), "ms")),
        ("{device}", Expression("{device}", None, "", ("", "device", ""))),
        ("x-{device}/{$qos}", Expression("x-{device}/{$qos}", None, "", ("x-", "device", "/", "$qos", ""))),
        ("plain", Expression("plain", None, "", ("plain",))),
        ("", Expression("", None, "", ("",))),
    ],
)
def test_where_a_value_comes_from(text: str, expected: Expression) -> None:
    assert parse_expression(text, ("device",)) == expected


def test_an_expression_says_its_names_and_whether_it_is_one() -> None:
    several, one, around, none = (
        parse_expression(text, ("a",)) for text in ("{a}{$qos}", "{a}", "{a} ", "a")
    )
    assert [found.names for found in (several, one, around, none)] == [("a", "$qos"), ("a",), ("a",), ()]
    assert [found.sole for found in (several, one, around, none)] == ["", "a", "", ""]


KNOWN = (
    "there are {device}, {$payload}, {$qos}, {$client}, {$user}, {$now}, {$topic}, {$message_id}, {$retain}"
)
PATH = '$ and members with a point before each are wanted, such as "$.value"'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{shop}", f"{{shop}} is not known: {KNOWN}"),
        ("{}", f"{{}} is not known: {KNOWN}"),
        ("{$place}", f"{{$place}} is not known: {KNOWN}"),
        ("a{", '"a{": an unpaired brace: a level is written {level}'),
        ("}{device}", '"}{device}": an unpaired brace: a level is written {level}'),
        ("$x", f'"$x": {PATH}'),
        ("$.", f'"$.": {PATH}'),
        ("$.a[-1]", f'"$.a[-1]": {PATH}'),
        ("$.a[1234567890]", f'"$.a[1234567890]": {PATH}'),
        ("$.a  s", f'"$.a  s": {PATH}'),
        ("$.a h", '"$.a h": the unit of a time is s, ms or us, not h'),
    ],
)
def test_what_is_no_expression(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
        parse_expression(text, ("device",))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("device", ("", "device", "")),
        ("payload", ("", "$payload", "")),
        ("{device}-1", ("", "device", "-1")),
        ("'mqtt'", ("mqtt",)),
        ("''", ("",)),
        ("'it''s'", ("it's",)),
        ("'a, b'", ("a, b",)),
        ("'$.a'", ("$.a",)),
        ("'{device}-1'", ("", "device", "-1")),
    ],
)
def test_an_argument_of_a_call(argument: str, expected: tuple[str, ...]) -> None:
    name, arguments = parse_call(f" app.f ( topic , {argument},$.v ) ", ("device",))
    assert name == "app.f"
    assert [where for where, _ in arguments] == ["argument 1", "argument 2", "argument 3"]
    assert (arguments[0][1].sole, arguments[1][1].pieces) == ("$topic", expected)
    assert arguments[2][1].path == ("v",)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("f", '"f": a function and its arguments are wanted, such as "app.ingest(topic, payload)"'),
        ("f(a))x", '"f(a))x": a function and its arguments are wanted, such as "app.ingest(topic, payload)"'),
        ("f( )", '"f( )": at least one argument is wanted, such as payload'),
        ("a.b.c(topic)", '"schema.name" or "name" is wanted, not "a.b.c"'),
        ("f(topic,)", "nothing: a name, a path or text in single quotes is wanted"),
        ("f(,topic)", "nothing: a name, a path or text in single quotes is wanted"),
        ("f(5)", "5: a name, a path or text in single quotes is wanted"),
        ("f('a)", "'a: a name, a path or text in single quotes is wanted"),
        ("f('a'b)", "'a'b: a name, a path or text in single quotes is wanted"),
    ],
)
def test_what_is_no_call(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(what)}$"):
        parse_call(text, ())


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a.b.c"])
def test_what_is_no_table_s_name(name: str) -> None:
    with pytest.raises(ValueError, match="wanted"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "a.b", "Ä-x.y z"])
def test_a_name_may_have_a_schema(name: str) -> None:
    check_name(name)
