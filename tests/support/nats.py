"""NATS servers of one's own: one, or a cluster, with JetStream in a temporary folder."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from support.polling import PATIENCE_S, until_blocking
from support.ports import free_port

BINARY = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
"""Of the extra `cluster`, or the system's."""


class Server:
    """One process; it can be stopped, killed, paused and started again with what it has on disk."""

    def __init__(self, folder: Path, name: str, port: int, more: str = "") -> None:
        self.name = name
        self.port = port
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "nats.conf"
        self.config.write_text(
            f'server_name: {name}\nlisten: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{self.folder}/js", max_mem: 256M, max_file: 1G }}\n{more}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert BINARY is not None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([BINARY, "-c", str(self.config)], stdout=log, stderr=log)

    def wait_until_it_answers(self) -> None:
        """Raises: AssertionError."""
        until_blocking(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as sock:
                return sock.recv(5) == b"INFO "
        except OSError:
            return False

    def send_signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def forget(self) -> None:
        """Lose what is on disk."""
        shutil.rmtree(self.folder / "js")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class NatsCluster:
    """So many servers that know each other, or a single one.  Context manager.

    Args:
        ways: of more than one server: who passes on what comes to the routes of each, so that the first can be cut off
            from the others; their ports. The others go to each other directly.
    """

    def __init__(self, count: int = 1, more: str = "", ways: tuple[int, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rowcast-nats-"))
        ports = [free_port() for _ in range(2 * count)]
        clients, routes = ports[:count], ports[count:]
        self.servers: list[Server] = []
        self.routes, self.ways = routes, ways
        for index in range(count):
            joined = _joined(index, routes, ways) if count > 1 else ""
            self.servers.append(Server(self.folder, f"n{index + 1}", clients[index], joined + more))

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(server.url for server in self.servers)

    def __enter__(self) -> NatsCluster:
        try:
            for server in self.servers:
                server.start()
            for server in self.servers:
                server.wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _joined(index: int, routes: list[int], ways: tuple[int, ...]) -> str:
    """How one server finds the others, and they it."""
    peers = list(routes)
    more = ""
    if ways:
        peers = list(ways) if index == 0 else [ways[0], *routes[1:]]
        more = f', advertise: "127.0.0.1:{ways[index]}"'
    said = ", ".join(f'"nats://127.0.0.1:{port}"' for port in peers)
    return f'cluster {{ name: test, listen: "127.0.0.1:{routes[index]}", routes: [{said}]{more} }}\n'
