"""A LISTEN loop and nothing else: each notification becomes one byte for each connection.

python bare_listen.py PORT DSN (with psycopg).  Tells what Postgres and psycopg alone allow.
"""

from __future__ import annotations

import selectors
import signal
import socket
import sys

import psycopg


def main(port: int, dsn: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server(("127.0.0.1", port))
    database = psycopg.connect(dsn, autocommit=True)
    database.execute("LISTEN bench")
    pgconn = database.pgconn
    clients: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(pgconn.socket, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                clients.append(listener.accept()[0])
                continue
            pgconn.consume_input()
            count = 0
            while pgconn.notifies() is not None:
                count += 1
            clients = [client for client in clients if _sent(client, b"." * count)]


def _sent(client: socket.socket, data: bytes) -> bool:
    try:
        client.sendall(data)
    except OSError:
        return False
    return True


main(int(sys.argv[1]), sys.argv[2])
