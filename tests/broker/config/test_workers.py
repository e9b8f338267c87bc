"""What several processes of one configuration have in common, and what each has for itself."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from broker.config.cluster import ClusterConfig
from broker.config.model import AdminHttp, Config, Listener, Persistence
from broker.config.workers import for_worker

CONFIG = Config(
    listeners=(Listener(1883), Listener(0, unix_path="/run/rowcast.sock")),
    cluster=ClusterConfig(("nats://n",), node="shop", workers=3),
    admin=AdminHttp(9001),
    metrics=AdminHttp(0),
    persistence=Persistence(persistence_file="rowcast.db"),
    pid_file=Path("/run/rowcast.pid"),
    control_socket=Path("/run/rowcast.control"),
)


def test_each_has_a_name_a_file_and_a_port_of_its_own() -> None:
    first, third = for_worker(CONFIG, 1), for_worker(CONFIG, 3)
    for config, number in ((first, 1), (third, 3)):
        assert config.cluster is not None
        assert (config.cluster.node, config.cluster.workers) == (f"shop-{number}", 1)
        assert config.persistence.persistence_file == f"rowcast.db.{number}"
        assert config.admin == AdminHttp(9000 + number)
        assert config.metrics == AdminHttp(0), "any free port is each one's own"


def test_all_share_the_ports_and_only_the_first_has_the_unix_socket() -> None:
    shared = Listener(1883, reuse_port=True)
    unix = Listener(0, unix_path="/run/rowcast.sock", reuse_port=True)
    assert for_worker(CONFIG, 1).listeners == (shared, unix)
    assert for_worker(CONFIG, 2).listeners == (shared,)


def test_what_the_parent_has_is_not_theirs_and_nothing_else_changes() -> None:
    made = for_worker(CONFIG, 1)
    assert (made.pid_file, made.control_socket) == (None, None)
    alike = evolve(
        CONFIG,
        listeners=made.listeners,
        cluster=made.cluster,
        persistence=made.persistence,
        pid_file=None,
        control_socket=None,
    )
    assert made == alike


def test_a_port_that_is_not_there_stays_away() -> None:
    assert for_worker(evolve(CONFIG, admin=None), 2).admin is None
