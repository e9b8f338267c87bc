"""The program that one would write by hand: QoS 1 messages from MQTT clients into one table, a batch at a time.

It knows one topic, one payload and no other packets: no sessions, no subscribers, no rules, no refusals.  A message is
acknowledged after the COMMIT of its row, so it does what a sink of Rowcast promises, and nothing else; and it makes the
columns as fast as Rowcast does, by the same function.

    python -m benchmarks.peers.table_writer PORT DSN ROWS STATEMENT
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from datetime import UTC, datetime
from typing import Final

import psycopg

from broker.ingest.values import column_text

Row = tuple[str, str, str, str, str, str]

RECEIVE_BYTES: Final = 262_144
CONNACK: Final = b"\x20\x02\x00\x00"
PUBLISH_QOS_1: Final = 0x32


class Client:
    """One publisher: what it sent and is no whole packet yet, and what it waits for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self._name = ""

    def take(self, rows: list[Row], owed: list[tuple[Client, bytes]]) -> bool:
        """Read rows, each with whom an acknowledgement goes to; False if the client is gone."""
        received = self.sock.recv(RECEIVE_BYTES)
        data = self._rest + received
        at = 0
        while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
            end = at + 2 + data[at + 1]  # no packet of the benchmark is longer than 127 bytes
            if data[at] != PUBLISH_QOS_1:
                self._name = data[at + 14 : end].decode()
                self.sock.sendall(CONNACK)
            else:
                payload = at + 4 + (data[at + 2] << 8 | data[at + 3])
                _, device, metric = data[at + 4 : payload].decode().split("/")
                said = json.loads(data[payload + 2 : end])
                moment = datetime.fromtimestamp(said["ts"] / 1000, UTC).isoformat()
                rows.append((device, metric, repr(said["v"]), moment, "1", self._name))
                owed.append((self, data[payload : payload + 2]))
            at = end
        self._rest = data[at:]
        return bool(received)


def serve(listener: socket.socket, connection: psycopg.Connection, most: int, statement: str) -> None:
    """Take messages and write them, until it is killed."""
    rows: list[Row] = []
    owed: list[tuple[Client, bytes]] = []
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    sock = listener.accept()[0]
                    selector.register(sock, selectors.EVENT_READ, Client(sock))
                elif not key.data.take(rows, owed):
                    selector.unregister(key.data.sock)
            for start in range(0, len(rows), most):
                write(connection, rows[start : start + most], owed[start : start + most], statement)
            rows.clear()
            owed.clear()


def write(
    connection: psycopg.Connection, rows: list[Row], owed: list[tuple[Client, bytes]], statement: str
) -> None:
    """Commit these rows, and acknowledge them."""
    columns = [column_text(list(column)) for column in zip(*rows, strict=True)]
    connection.execute(statement.encode(), columns, prepare=True)
    answers: dict[Client, list[bytes]] = {}
    for client, packet_id in owed:
        answers.setdefault(client, []).append(b"\x40\x02" + packet_id)
    for client, packets in answers.items():
        client.sock.sendall(b"".join(packets))


def main() -> None:
    port, dsn, rows, statement = sys.argv[1:]
    with (
        socket.create_server(("127.0.0.1", int(port))) as listener,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        print("writes to a table", file=sys.stderr, flush=True)
        serve(listener, connection, int(rows), statement)


if __name__ == "__main__":
    main()
