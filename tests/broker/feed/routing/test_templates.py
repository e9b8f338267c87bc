"""Columns to topics, as tables: what stands for NULL and for unfit values, and what keeps a row from its route."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.feeds import Route
from broker.config.templates import KIND
from broker.feed.routing import templates
from broker.feed.routing.templates import DialectTopics, MqttTopics, Unfit, columns_getter, tuple_getter
from broker.gateway.channels import topic_of
from protocol.mqtt.topics import is_valid_topic_name


def topics(template: str, columns: dict[str, Any], **more: Any) -> list[bytes]:
    route = Route("s", tuple(template.split("|")), **more)
    return [topic for topic, _ in MqttTopics(route).fill({KIND: "fill", **columns})]


@pytest.mark.parametrize(
    ("template", "columns", "more", "expected"),
    [
        ("t/{a}", {"a": "1"}, {}, ["t/1"]),
        ("{$kind}/{a}|{b}/x", {"a": "1", "b": "2"}, {}, ["fill/1", "2/x"]),
        ("{a}/{a}", {"a": "1"}, {}, ["1/1"]),
        ("plain", {}, {}, ["plain"]),
        ("{{{a}}}/100%", {"a": "%s"}, {}, ["{%s}/100%"]),
        ("t/{a}", {"a": True}, {}, ["t/true"]),
        ("t/{a}", {"a": False}, {}, ["t/false"]),
        ("t/{a.b}", {"a": {"b": "1"}}, {}, ["t/1"]),
        ("t/{a.b}", {"a.b": "1", "a": {"b": "2"}}, {}, ["t/1"]),
        ("t/{a}", {"a": None}, {"on_null": "none"}, ["t/none"]),
        ("t/{a}", {"a": "x/y"}, {"on_unsafe": "_"}, ["t/_"]),
        ("t/{a}", {"a": ""}, {"on_unsafe": "_"}, ["t/_"]),
        ("t/{a}", {"a": "x/y+#%ü"}, {"on_unsafe": "percent"}, ["t/x%2Fy%2B%23%25ü"]),
        ("t/{a}", {"a": "\ud800\x00"}, {"on_unsafe": "percent"}, ["t/%ED%A0%80%00"]),
        ("{a}/t", {"a": "$x"}, {"on_unsafe": "percent"}, ["%24x/t"]),
        ("t/{a}", {"a": "$x"}, {}, ["t/$x"]),
    ],
)
def test_topics_of_a_row(
    template: str, columns: dict[str, Any], more: dict[str, Any], expected: list[str]
) -> None:
    assert topics(template, columns, **more) == [topic.encode() for topic in expected]


@pytest.mark.parametrize(
    ("template", "columns", "more", "reason", "name"),
    [
        ("t/{a}/{b}", {"a": "1", "b": None}, {}, "null", "b"),
        ("t/{a}", {"a": "x/y"}, {}, "unsafe_value", "a"),
        ("t/{a}", {"a": ""}, {}, "unsafe_value", "a"),
        ("t/{a}", {"a": ""}, {"on_unsafe": "percent"}, "unsafe_value", "a"),
        ("t/{a}", {"a": "\n"}, {}, "unsafe_value", "a"),
        ("t/{a}", {"a": "\ufffe"}, {}, "unsafe_value", "a"),
        ("t/{a}", {"a": ["1"]}, {"on_unsafe": "_"}, "unsafe_value", "a"),
        ("t/{a}", {"a": {}}, {"on_unsafe": "percent"}, "unsafe_value", "a"),
        ("{a}/t", {"a": "$SYS"}, {}, "unsafe_value", "a"),
        ("{a}/t", {"a": "$SYS"}, {"on_unsafe": "_"}, "unsafe_value", "a"),
        ("t/{a}", {"a": "x" * 65_534}, {}, "topic_too_long", "a"),
    ],
)
def test_what_can_t_be_in_a_topic_keeps_the_row_and_names_the_column(
    template: str, columns: dict[str, Any], more: dict[str, Any], reason: str, name: str
) -> None:
    with pytest.raises(Unfit) as refused:
        topics(template, columns, **more)
    assert (refused.value.reason, refused.value.name) == (reason, name)


@pytest.mark.parametrize(
    ("template", "columns"),
    [
        ("t/{a}", {}),
        ("t/{a.b}", {}),
        ("t/{a.b}", {"a": "1"}),
        ("t/{a.b}", {"a": {}}),
        ("t/{a.b.c}", {"a": {"b": None}}),
    ],
)
def test_a_row_without_the_column_is_another_matter(template: str, columns: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        topics(template, columns)


@given(st.text(st.characters(codec=None), max_size=5), st.sampled_from(("drop", "percent", "_")))
def test_a_topic_is_one_that_mqtt_allows_with_its_template_s_levels(value: str, on_unsafe: str) -> None:
    try:
        [topic] = topics("{a}/t", {"a": value}, on_unsafe=on_unsafe)
    except Unfit:
        return
    assert is_valid_topic_name(topic)
    assert topic.count(b"/") == 1
    assert not topic.startswith((b"$", b"/"))


def test_channels_are_the_dialect_s_and_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "CHANNEL_TOPICS_MAX", 2)
    channels = DialectTopics(Route("s", ("{a}@x", "{$kind}"), target="exchange", on_null="none"))
    for value in ("1", "a/b", "ü", "1"):
        [named, kind] = channels.fill({KIND: "fill", "a": value})
        assert named == (topic_of("exchange", f"{value}@x"), f"{value}@x")
        assert kind[1] == "fill"
        assert len(channels._topics) <= 2
    assert channels.fill({KIND: "k", "a": None})[0][1] == "none@x"


def test_a_channel_that_can_t_be_keeps_the_row() -> None:
    channels = DialectTopics(Route("s", ("{a}",), target="exchange"))
    with pytest.raises(Unfit) as refused:
        channels.fill({KIND: "k", "a": "x" * 100_000})
    assert refused.value.reason == "unsafe_value"


@pytest.mark.parametrize(
    ("keys", "expected"), [((), ()), (("a",), ("1",)), (("b", "a", "b"), ("2", "1", "2"))]
)
def test_a_getter_gives_a_tuple_for_any_number(keys: tuple[str, ...], expected: tuple[str, ...]) -> None:
    columns = {"a": "1", "b": "2"}
    assert tuple_getter(keys)(columns) == expected
    assert columns_getter(keys)(columns) == expected
