"""WebSocket readers in a process of their own, so that they are served by the kernel and not by the broker's loop.

`python -m support.burst_readers PORT PATH READERS ROWS`: prints `ready` once all are connected, then, for each reader,
whether it got the rows 1 to ROWS in order, and how long the last one took.
"""

from __future__ import annotations

import json
import sys
import time

import trio
import trio_websocket


async def read(
    port: int,
    path: str,
    rows: int,
    results: list[str],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """One reader, to its last row or until it is closed."""
    count = 0
    try:
        async with trio_websocket.open_websocket(
            "127.0.0.1", port, path, use_ssl=False, message_queue_size=100
        ) as websocket:
            task_status.started()
            while count < rows:
                number = json.loads(await websocket.get_message())["payload"]["n"]
                if number != count + 1:
                    results.append(f"{number} behind {count}")
                    return
                count = number
    except trio_websocket.ConnectionClosed as closed:
        results.append(f"closed behind {count}: {closed.reason}")
    else:
        results.append("all")


async def main(port: str, path: str, readers: str, rows: str) -> None:
    """All readers of this process."""
    results: list[str] = []
    async with trio.open_nursery() as nursery:
        for _ in range(int(readers)):
            await nursery.start(read, int(port), path, int(rows), results)
        print("ready", flush=True)
        started = time.monotonic()
    for result in sorted(set(results)):
        print(f"{results.count(result)} readers: {result}", flush=True)
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
