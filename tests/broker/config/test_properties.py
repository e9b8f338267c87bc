"""Which columns a route's properties need."""

from __future__ import annotations

from broker.config.properties import NO_PROPERTIES, PropertyTemplates


def test_each_name_is_needed_once_wherever_it_stands() -> None:
    properties = PropertyTemplates(
        5, "valid", "{mime}", "answers/{who}", "{id}-{$position}", (("a", "{who}"), ("b", "{tag}{{x}}"))
    )
    assert properties.names() == ("mime", "who", "id", "$position", "tag", "valid")


def test_the_column_of_the_expiry_may_be_one_that_a_text_has() -> None:
    assert PropertyTemplates(expiry_column="who", content_type="{who}").names() == ("who",)


def test_without_columns_there_are_none() -> None:
    assert NO_PROPERTIES.names() == ()
    assert PropertyTemplates(5, content_type="text/plain").names() == ()
