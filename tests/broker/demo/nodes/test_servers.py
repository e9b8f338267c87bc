"""The demo's NATS servers and nodes: what is written for them, and that none outlives the demo."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from broker.config.toml import configuration as toml
from broker.demo.nodes import servers as module
from broker.demo.nodes.servers import ServerError, Servers, running_servers

DSN = "postgresql://localhost/demo"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of a NATS server: it says what it was started with, and waits."""
    path = tmp_path / "nats-server"
    path.write_text('#!/bin/sh\necho "$@"\nexec sleep 600\n')
    path.chmod(0o755)
    monkeypatch.setattr(module, "_nats_program", lambda: str(path))
    return path


@pytest.mark.usefixtures("program")
def test_each_node_has_its_ports_and_all_servers(tmp_path: Path) -> None:
    servers = Servers(tmp_path, 3, DSN)
    assert len(servers.ports) == len(servers.admin_ports) == 3
    assert len({*servers.ports, *servers.admin_ports}) == 6
    configs = [toml.load(servers.configuration(f"n{number}"), {}) for number in (1, 2, 3)]
    assert [config.listeners[0].port for config in configs] == servers.ports
    addresses = set()
    for number, config in enumerate(configs, 1):
        assert config.cluster is not None
        assert (config.cluster.node, config.cluster.name, config.cluster.replicas) == (
            f"n{number}",
            "demo",
            3,
        )
        assert config.admin is not None
        assert config.admin.port == servers.admin_ports[number - 1]
        addresses.add(config.cluster.nats)
    (nats,) = addresses
    assert len(set(nats)) == 3
    for number in (1, 2, 3):
        text = (tmp_path / f"s{number}.conf").read_text()
        assert f"server_name: s{number}\n" in text
        assert f'listen: "{nats[number - 1].removeprefix("nats://")}"' in text
        assert len(set(re.findall(r"nats://[^\"]+", text))) == 3


@pytest.mark.usefixtures("program")
def test_servers_run_while_the_demo_does(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    with running_servers(2, DSN) as servers:
        assert sorted(servers._processes) == ["s1", "s2", "s3"]
        monkeypatch.setattr(sys, "executable", str(program))
        servers.start("n1")
        folder = servers.configuration("n1").parent
        processes = dict(servers._processes)
        assert all(process.poll() is None for process in processes.values())
        servers.kill("s2")
        assert processes["s2"].poll() is not None
        servers.start("s2")
        again = servers._processes["s2"]
        assert again is not processes["s2"]
        said = [str(word) for word in again.args]  # type: ignore[union-attr]
        assert said == [str(program), "-c", str(folder / "s2.conf")]
        node = [str(word) for word in processes["n1"].args]  # type: ignore[union-attr]
        assert node == [str(program), "-m", "broker", "-c", str(servers.configuration("n1"))]
        servers.kill("n1")  # or it would write into its log, too
        (folder / "n1.log").write_text("x" * 1000 + "the end")
        (folder / "n2.log").write_text("of another")
        words = servers.last_words()
        assert words.endswith("the end\nof another")
        assert len(words) == 500 + len("\nof another")
    assert all(process.poll() is not None for process in [*processes.values(), again])
    assert not folder.exists()


@pytest.mark.usefixtures("program")
def test_none_is_left_where_the_demo_fails() -> None:
    running = running_servers(1, DSN)
    processes = list(running.__enter__()._processes.values())
    assert not running.__exit__(KeyError, KeyError(), None)
    assert all(process.poll() is not None for process in processes)


def test_what_is_missing_is_said_with_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []
    monkeypatch.setattr(shutil, "which", lambda name, path=None: found.append(path))
    with pytest.raises(ServerError, match="pip install"):
        running_servers(1, DSN).__enter__()
    assert found == [str(Path(sys.executable).parent), None], "beside this Python, then in PATH"
