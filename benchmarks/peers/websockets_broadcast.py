"""The `websockets` library's broadcast: what a client sends on /publish goes to all the others.

python websockets_broadcast.py PORT (in its own venv).  Compression is off, as in Rowcast.
"""

import asyncio
import logging
import signal
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(port: int) -> None:
    logging.basicConfig(level=logging.ERROR)
    readers: set[ServerConnection] = set()

    async def serve_one(connection: ServerConnection) -> None:
        if connection.request is not None and connection.request.path == "/publish":
            async for message in connection:
                broadcast(readers, message)
            return
        readers.add(connection)
        try:
            await connection.wait_closed()
        finally:
            readers.discard(connection)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(serve_one, "127.0.0.1", port, compression=None, ping_interval=None):
        await stop.wait()


asyncio.run(main(int(sys.argv[1])))
