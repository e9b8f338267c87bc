from __future__ import annotations

import pytest

from broker.config.templates import check_topic, parse_template


def test_a_template_is_split_into_constants_and_names() -> None:
    template = parse_template("fill/{market id}/{user}/{$kind}/{user}")
    assert template.names == ("market id", "user", "$kind", "user")
    assert template.pattern % ("1", "u", "fill", "u") == "fill/1/u/fill/u"


def test_doubled_braces_and_percent_signs_stand_for_themselves() -> None:
    template = parse_template("{{100%}}/{a}")
    assert template.pattern % ("x",) == "{100%}/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/{", "unpaired '{'"),
        ("a/}b", "unpaired '}'"),
        ("a/{b", "unpaired '{'"),
        ("a/{}", "without a name"),
        ("a/{$table}", r"the only names with a \$ are \{\$kind\} and \{\$operation\}"),
    ],
)
def test_a_malformed_template_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty topic"),
        ("$SYS/{a}", r"start with \$"),
        ("a/+/{b}", r"no \+, #"),
        ("a/#", r"no \+, #"),
        ("a\n/{b}", "control character"),
        ("x" * 65_536, "65535 bytes"),
        ("/" * 201, "more than 200 slashes"),
    ],
)
def test_a_template_that_no_row_could_make_a_topic_of_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_topic(parse_template(text))


def test_sensible_topics_pass() -> None:
    for text in ("a", "{a}", "/a//b", "a/{b}c{d}/☃", "/".join(["x"] * 201)):
        check_topic(parse_template(text))
