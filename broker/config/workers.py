"""What each of several processes of one configuration is told (`workers` in [cluster])."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from broker.config.model import AdminHttp, Config

NUMBER_VARIABLE: Final = "ROWCAST_WORKER"
"""In the environment of a process that a parent has started: which it is, from 1."""


def for_worker(config: Config, number: int) -> Config:
    """The configuration of one of them.

    All have the same TCP ports.  A unix socket is the first one's; the ports of [admin] and [metrics] count up from
    the one that is configured; the node's name and the persistence file get the number behind them.
    """
    assert config.cluster is not None
    listeners = tuple(
        evolve(one, reuse_port=True) for one in config.listeners if one.unix_path is None or number == 1
    )
    persistence = config.persistence
    return evolve(
        config,
        listeners=listeners,
        cluster=evolve(config.cluster, node=f"{config.cluster.node}-{number}", workers=1),
        admin=_moved(config.admin, number),
        metrics=_moved(config.metrics, number),
        persistence=evolve(persistence, persistence_file=f"{persistence.persistence_file}.{number}"),
        pid_file=None,
        control_socket=None,
    )


def _moved(http: AdminHttp | None, number: int) -> AdminHttp | None:
    return http if http is None or not http.port else evolve(http, port=http.port + number - 1)
