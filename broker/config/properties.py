"""Properties of MQTT 5.0 that a route gives its messages, as templates."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from broker.config.templates import names_in


@frozen
class PropertyTemplates:
    """What a route says of its messages beyond topic and body; "" and None say nothing.

    Templates are filled in as those of topics are, and may name `{$position}`, too.
    """

    expiry_s: int | None = None
    """Seconds from when the row is published."""
    expiry_column: str = ""
    """The column that says it instead: seconds, a duration, an interval, or a moment."""
    content_type: str = ""
    response_topic: str = ""
    correlation_data: str = ""
    user_properties: tuple[tuple[str, str], ...] = ()
    """Names, and templates of values, in their order; a name may come again."""

    def templates(self) -> Iterator[str]:
        """Every text that a row fills in."""
        yield from (self.content_type, self.response_topic, self.correlation_data)
        yield from (text for _, text in self.user_properties)

    def names(self) -> tuple[str, ...]:
        """Columns and `$` names that are needed, each once."""
        named = [name for text in self.templates() for name in names_in(text, in_property=True)]
        return tuple(dict.fromkeys((*named, self.expiry_column) if self.expiry_column else named))


NO_PROPERTIES = PropertyTemplates()
