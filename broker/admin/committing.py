"""The answer to who published over HTTP: it waits for a table's COMMIT, and for a cluster's log, where they take it."""

from __future__ import annotations

from typing import Final

import trio

from broker.admin.publishing import Published
from protocol.mqtt.v5.reasons import ReasonCode

COMMIT_WAIT_S: Final = 30.0
"""An HTTP client is told after so long that its rows are not committed yet."""

WHO_REFUSES: Final = {
    int(ReasonCode.SERVER_BUSY): (503, "the cluster's log takes nothing now, and did not take"),
    int(ReasonCode.PACKET_TOO_LARGE): (422, "too large for the cluster's log:"),
    int(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR): (422, "the cluster's log refused"),
}
"""By reason code: status, and what is said before the messages are named."""


async def outcome(published: Published) -> tuple[int, dict[str, object]]:
    """Wait, and say what became of the request: status of HTTP, and its body."""
    if published.left:
        committed = trio.Event()
        published.on_committed = committed.set
        with trio.move_on_after(COMMIT_WAIT_S):
            await committed.wait()
    if published.left:
        return 504, {"error": f"not committed within {COMMIT_WAIT_S:.0f} s; it may still be"}
    refused = published.refused()
    if refused:
        which = f"message{'s' * (len(refused) > 1)} {', '.join(map(str, refused))}"
        which = "the message" if published.count == 1 else which
        status, who = WHO_REFUSES.get(published.worst(), (422, "the table refused"))
        return status, {"error": f"{who} {which}", "refused": refused}
    return 200, {"result": True, "published": published.count}
