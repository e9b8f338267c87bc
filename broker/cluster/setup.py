"""The streams of a cluster: made where they are missing, and told of another configuration."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names, streams
from broker.config.cluster import ClusterConfig
from protocol.nats import jetstream
from protocol.nats.jetstream import ApiError, Stored

logger = logging.getLogger("broker.cluster")

ANSWER_S: Final = 5.0
CREATE_S: Final = 15.0
"""Making a stream waits until its replicas have agreed on a leader."""

_CURES: Final = {
    0: "turn JetStream on: jetstream { store_dir: ... } in nats.conf",
    10005: "fewer NATS servers with JetStream are there than replicas in [cluster] says: start them, or lower replicas",
    10047: "lower keep_bytes in [cluster], or let NATS store more: max_file_store in its jetstream block",
    10065: "another stream of this NATS takes these subjects: give [cluster] another name, or remove that stream",
    10074: "this NATS is a single server: replicas = 1 in [cluster], or more servers",
}
"""By what NATS calls an error; 0 stands for an answer that nobody gives."""


async def ask(link: NatsLink, request: tuple[bytes, bytes], timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Raises: Unavailable, ApiError, NatsProtocolError."""
    return jetstream.answer(await link.request(*request, timeout_s))


async def info(link: NatsLink, name: str) -> dict[str, Any] | None:
    """A stream's `STREAM.INFO`, None if there is none.  Raises: Unavailable, ApiError."""
    try:
        return await ask(link, jetstream.stream_info(name))
    except ApiError as error:
        if error.err_code == jetstream.STREAM_NOT_FOUND:
            return None
        raise


async def consumer(link: NatsLink, stream: str, name: str) -> dict[str, Any] | None:
    """A consumer's configuration, None if there is none.  Raises: Unavailable, ApiError, NatsProtocolError."""
    try:
        found = await ask(link, jetstream.consumer_info(stream, name))
    except ApiError as error:
        if error.err_code == jetstream.CONSUMER_NOT_FOUND:
            return None
        raise
    return dict(found.get("config") or {})


def made_at(found: dict[str, Any]) -> str:
    """When the stream of this `info` was made, as NATS says it."""
    return str(found.get("created", ""))


def places(found: dict[str, Any]) -> tuple[int, int]:
    """The first and the last place of the stream of this `info`; 0 where it says none, as while it is made anew."""
    state = found.get("state", {})
    return int(state.get("first_seq", 0)), int(state.get("last_seq", 0))


def epoch_of(created: str) -> str:
    """From when a stream was made, as NATS says it."""
    return "".join(one for one in created if one.isdigit()) or "0"


async def last(link: NatsLink, stream: str, subject: bytes, timeout_s: float) -> Stored | None:
    """The last message of a subject, None if there never was one.  Raises: Unavailable, ApiError, NatsProtocolError."""
    return await _stored(link, jetstream.last_of(stream, subject), timeout_s)


async def message_at(link: NatsLink, stream: str, sequence: int) -> Stored | None:
    """The message with this sequence, None if the one who leads does not have it.  Raises: as `last`."""
    return await _stored(link, jetstream.message_at(stream, sequence), ANSWER_S)


async def first_behind(link: NatsLink, stream: str, sequence: int) -> Stored | None:
    """The first message with this sequence or a higher one, None as above.  Raises: as `last`."""
    return await _stored(link, jetstream.next_of(stream, b">", sequence), ANSWER_S)


async def _stored(link: NatsLink, request: tuple[bytes, bytes], timeout_s: float) -> Stored | None:
    try:
        return jetstream.stored(await link.request(*request, timeout_s))
    except ApiError as error:
        if error.err_code == jetstream.NO_MESSAGE:
            return None
        raise


async def make_streams(link: NatsLink, config: ClusterConfig) -> bool:
    """See that every stream is there, and as configured; whether the log is new.

    Raises:
        Unavailable: no answer, or no quorum, yet.
        ApiError: NATS does not allow it; its text says why.
    """
    is_new = False
    for wanted in streams(config):
        found = await info(link, wanted["name"])
        if found is None:
            if wanted["name"] == Names(config.name).sessions:
                # Made again, it has no sequence that a record had before: no compare-and-set fits by chance.
                wanted["first_seq"] = int(time.time() * 1000)
            made = await _ask_patiently(link, jetstream.stream_create(wanted))
            logger.info("Made the stream %s with %d replicas.", wanted["name"], config.replicas)
            # Who said that it is not there may not have heard of it; then it is as it was, and has its messages.
            is_new = is_new or (wanted["name"] == Names(config.name).messages and places(made)[1] == 0)
        elif _differs(wanted, found.get("config", {})):
            logger.info("The stream %s is to be as configured here.", wanted["name"])
            there = found["config"]
            if there.get("sources"):
                # As they are, lest NATS goes on where it was with what they were before, see `see_to_copying`.
                wanted["sources"] = there["sources"]
            await _ask_patiently(link, jetstream.stream_update({**there, **wanted}))
    return is_new


def words_of(error: Exception) -> str:
    """What is wrong with the streams, and what helps, where that is known."""
    cure = _CURES.get(error.err_code) if isinstance(error, ApiError) else None
    return str(error) if cure is None else f"{error}; {cure}"


async def _ask_patiently(link: NatsLink, request: tuple[bytes, bytes]) -> dict[str, Any]:
    try:
        return await ask(link, request, CREATE_S)
    except ApiError as error:
        if error.passes:
            raise Unavailable(str(error)) from None
        if error.err_code != jetstream.STREAM_NAME_IN_USE:  # another node was faster
            raise
        return {}


def _differs(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    return any(
        found.get(key) != value
        for key, value in wanted.items()
        if key in ("max_age", "max_bytes", "num_replicas")
    )
