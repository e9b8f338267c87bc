"""`POST /v1/mesh/publish`: a message, or a batch of them, for channels of a dialect or for topics.

One message is `{"c": CHANNEL, "d": TEXT}` or `{"topic": TOPIC, "d": TEXT, "qos": 1, "retain": false}`; a batch is a
list of them, all published or, if one is wrong, none.  The channel carries its dialect's prefix: `ex:1001@balance`,
`canton:orders/acc_1`, `econia:fill_event`.  Topics are those of MQTT, and go into tables as a client's messages do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from broker.config.dialects.gateway import DIALECT_KINDS, GatewayConfig
from broker.config.steps import Steps
from broker.core.outbox import nothing
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.gateway.channels import BadChannel, topic_of
from broker.gateway.gateway import Gateway
from protocol.json_members import elements_in, is_json, is_text, members_of
from protocol.mqtt.topics import is_valid_topic_name
from protocol.mqtt.v5.reasons import FAILURE

BATCH_MAX: Final = 1000

Members: TypeAlias = dict[str, tuple[Any, str]]
"""Of one message: the value and the text of each."""

Say: TypeAlias = Callable[[], Promise | None]
"""Publishes one message."""

STEP_CHARACTERS: Final = 32 * 1024
"""Of a body, looked at in one step: some tenths of a millisecond."""

ITEM_CHARACTERS: Final = 64
"""What each message of a batch counts for besides, however short it is."""

ABSENT: Final = (None, "")


class BadPublish(ValueError):
    """The request can't be published; the text says why."""


def prefixes_of(config: GatewayConfig) -> dict[str, str]:
    """What may stand before a channel's name, and which dialect it means."""
    return {kind.mesh_prefix: kind.name for kind in config.dialects if kind.mesh_prefix}


class Published:
    """What became of the messages of one request.  Its promises are kept inside turns of the loop.

    Attributes:
        count: of the messages.
        left: of those that a table, or a cluster's log, has neither taken nor refused yet.
        on_committed: called when there are none any more.
    """

    def __init__(self, promises: list[Promise | None]) -> None:
        self.count = len(promises)
        self.left = 0
        self.on_committed: Callable[[], None] = nothing
        self._promises = promises
        for promise in promises:
            if promise is not None and not promise.is_kept:
                self.left += 1
                promise.on_kept = self._one_less

    def _one_less(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.on_committed()

    def worst(self) -> int:
        """The highest reason code of any."""
        return max((promise.code for promise in self._promises if promise is not None), default=0)

    def refused(self) -> list[int]:
        """Which of the messages a table, or a cluster's log, refused, counted from 0."""
        return [
            index
            for index, promise in enumerate(self._promises)
            if promise is not None and promise.code >= FAILURE
        ]


class MeshPublisher:
    """Publishes what HTTP requests ask for.

    Args:
        gateway: where channels are.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._prefixes = prefixes_of(gateway.config)

    def read(self, body: bytes) -> Steps[list[Say]]:
        """What a request says, in steps, since the longest takes tens of milliseconds; then `publish`.

        Raises:
            BadPublish: nothing is to be published.
        """
        messages: list[Say] = []
        looked_at = 0
        for item, where in (yield from _items(body)):
            messages.append(self._message(item, where))
            looked_at += len(item)
            if looked_at > STEP_CHARACTERS:
                looked_at = 0
                yield
        return messages

    def publish(self, messages: list[Say]) -> Published:
        """Publish them, within a turn; readers are not waited for."""
        return Published([publish() for publish in messages])

    def _message(self, text: str, where: str) -> Say:
        members = members_of(text)
        if members is None:
            wanted = '{"c": CHANNEL, "d": TEXT} is wanted' if is_json(text) else "the body must be JSON"
            raise BadPublish(f"{where}{wanted}")
        if "topic" in members:
            return self._to_topic(members, where)
        dialect, channel, payload = self._to_channel(members, where)
        return lambda: self._gateway.publish(dialect, channel, payload)

    def _to_topic(self, members: Members, where: str) -> Say:
        wanted = members["topic"][0]
        qos, retain = members.get("qos", ABSENT)[1] or "1", members.get("retain", ABSENT)[1] or "false"
        try:
            topic = wanted.encode() if is_text(wanted) else b""
        except UnicodeEncodeError:
            topic = b""
        if not is_valid_topic_name(topic) or topic.startswith(b"$"):
            raise BadPublish(f"{where}topic must be a topic's name, without wildcards or a $ before it")
        if "c" in members:
            raise BadPublish(f"{where}a message has a c or a topic")
        if qos not in ("0", "1", "2") or retain not in ("true", "false"):
            raise BadPublish(f"{where}retain must be true or false, and qos 0, 1 or 2")
        payload = _payload(members, where)
        return lambda: self._publish_to_topic(Publication(topic, payload, int(qos), retain == "true"))

    def _publish_to_topic(self, publication: Publication) -> Promise | None:
        publication.request()
        self._gateway.engine.publish(publication)
        return publication.promise

    def _to_channel(self, members: Members, where: str) -> tuple[str, str, bytes]:
        name = members.get("c", ABSENT)[0]
        if not is_text(name):
            raise BadPublish(f"{where}c must be a channel's name")
        dialect, channel = self._channel(name, where)
        return dialect, channel, _payload(members, where)

    def _channel(self, name: str, where: str) -> tuple[str, str]:
        # Of two that begin alike the longer one is meant.
        prefix = max((one for one in self._prefixes if name.startswith(one)), key=len, default="")
        if not prefix:
            known = " or ".join(self._prefixes) or "(no dialect is set up)"
            raise BadPublish(f"{where}c must begin with {known}")
        dialect, channel = self._prefixes[prefix], name[len(prefix) :]
        try:
            topic_of(dialect, channel)
        except BadChannel as error:
            raise BadPublish(f"{where}c: {error}") from None
        wrong = DIALECT_KINDS[dialect].machine.why_unreadable(channel)
        if wrong is not None:
            raise BadPublish(f"{where}c: nobody can read {name}: {wrong}")
        return dialect, channel


def _items(body: bytes) -> Steps[list[tuple[str, str]]]:
    """The text of each message in a request, with where it stands, for an error."""
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass").strip(" \t\n\r")
    except ValueError:
        raise BadPublish("the body must be JSON") from None
    if not text.startswith("["):
        return [(text, "")]
    items: list[str] = []
    count = looked_at = 0
    try:
        for item in elements_in(text):
            count += 1
            if count <= BATCH_MAX:
                items.append(item)
            looked_at += len(item) + ITEM_CHARACTERS
            if looked_at > STEP_CHARACTERS:
                looked_at = 0
                yield
    except ValueError:
        raise BadPublish("the body must be JSON") from None
    if not 0 < count <= BATCH_MAX:
        raise BadPublish(f"a batch has 1 to {BATCH_MAX} messages, not {count}")
    return [(item, f"[{index}] ") for index, item in enumerate(items)]


def _payload(members: Members, where: str) -> bytes:
    """Text is sent as what it says; an object or a list as it is written, digit for digit."""
    value, text = members.get("d", ABSENT)
    if not text.startswith(("{", "[")):
        if not is_text(value):
            raise BadPublish(f"{where}d must be text, or an object")
        text = value
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadPublish(f"{where}d must be valid Unicode text") from None
