"""[cluster]: the NATS servers that the nodes of one cluster share their messages through."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

DAY_S = 24 * 3600.0


@frozen
class ClusterConfig:
    """One node's membership.

    Attributes:
        nats: addresses, `nats://HOST:PORT` or `tls://HOST:PORT`, with `USER:PASSWORD@` where NATS asks for them.
        name: of the cluster; prefix of its streams and subjects.
        node: of this node; no two nodes of a cluster may have the same.
        replicas: of the streams, 1, 3 or 5; a message is acknowledged when most of them have it.
        credentials: a file with a JWT and an nkey seed, as `nsc` writes it.
        user, password, token: where the addresses have none.
        ca_file, cert_file, key_file: for `tls://`.
        workers: processes of this configuration on this machine, each a node, on the same ports.
        keep_s, keep_bytes: how long, and how much, of what was published stays in the log.
        keep_wal_s: how long Postgres keeps rows that the log has, to fill it again.
    """

    nats: tuple[str, ...]
    name: str = "rowcast"
    node: str = ""
    replicas: int = 3
    workers: int = 1
    credentials: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keep_s: float = DAY_S
    keep_bytes: int = 1024 * 1024 * 1024
    keep_wal_s: float = 150.0
