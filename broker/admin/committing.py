"""The answer to who published over HTTP: it waits for the COMMIT, where tables take the messages."""

from __future__ import annotations

from typing import Final

import trio

from broker.admin.publishing import Published

COMMIT_WAIT_S: Final = 30.0
"""An HTTP client is told after so long that its rows are not committed yet."""


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
        return 422, {"error": f"the table refused {which}", "refused": refused}
    return 200, {"result": True, "published": published.count}
