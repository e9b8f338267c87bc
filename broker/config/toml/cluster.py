"""[cluster] of a TOML configuration."""

from __future__ import annotations

import os
import re
import socket
from urllib.parse import urlsplit

from attrs import evolve

from broker.config.cluster import ClusterConfig
from broker.config.toml.document import Document
from broker.config.toml.reader import Reader, Unresolved

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
SCHEMES = ("nats", "tls")
NATS_PORT = 4222
WORKERS_MAX = 64


def cluster_of(reader: Reader, document: Document) -> ClusterConfig | None:
    """[cluster]; None without."""
    if "cluster" not in document:
        return None
    table = document["cluster"]
    found = reader.structure(table, ClusterConfig, ("cluster",))
    if found is None:
        return None
    if not found.nats:
        reader.wrong(("cluster", "nats"), 'nats: at least one address is wanted, such as ["nats://n1:4222"]')
    for index, url in enumerate(found.nats):
        if not isinstance(url, Unresolved) and (what := _fault(url)):
            reader.wrong(("cluster", "nats", index), f"nats: {what}")
    if not found.node and "node" not in table:
        found = evolve(found, node=socket.gethostname().split(".")[0])
    for key in ("name", "node"):
        value = getattr(found, key)
        if not isinstance(value, Unresolved) and not _NAME.fullmatch(value):
            what = f'{key}: 1 to 40 of A-Z, a-z, 0-9, _ and - are wanted, not "{value[:60]}"'
            reader.wrong(("cluster", key), what)
    if found.replicas not in (1, 3, 5):
        reader.wrong(("cluster", "replicas"), f"replicas: 1, 3 or 5 is wanted, not {found.replicas}")
    _check_workers(reader, document, found.workers)
    if found.keep_s < 60:
        reader.wrong(("cluster", "keep"), "keep: at least 1m is wanted, or sessions that move lose messages")
    if found.keep_bytes < 1024 * 1024:
        reader.wrong(("cluster", "keep_bytes"), "keep_bytes: at least 1MB is wanted")
    if found.keep_wal_s < 0:
        reader.wrong(("cluster", "keep_wal"), "keep_wal: 0s or more is wanted")
    for key in ("credentials", "ca_file", "cert_file", "key_file"):
        path = getattr(found, key)
        if path is not None and not os.path.isfile(path):
            reader.wrong(("cluster", key), f"{key}: there is no file {path}")
    if not found.user and found.password:
        reader.wrong(("cluster", "password"), "password: a user is wanted with it")
    for key in [key for key in ("credentials", "token", "user") if getattr(found, key)][1:]:
        reader.wrong(("cluster", key), f"{key}: one of credentials, token and user is wanted")
    if (found.cert_file is None) != (found.key_file is None):
        given = "cert_file" if found.key_file is None else "key_file"
        reader.wrong(("cluster", given), "cert_file and key_file: either both or none")
    if "market" in document:
        what = "market: it calculates from what one process has seen: leave out [cluster], or this"
        reader.wrong(("market",), what)
    return found


def _check_workers(reader: Reader, document: Document, workers: int) -> None:
    """Processes that share their ports need ports to share."""
    if not 1 <= workers <= WORKERS_MAX:
        reader.wrong(("cluster", "workers"), f"workers: 1 to {WORKERS_MAX} is wanted, not {workers}")
    elif workers > 1:
        listeners = document.get("listener", [])
        for index, one in enumerate(listeners if isinstance(listeners, list) else []):
            if isinstance(one, dict) and one.get("port") == 0 and "unix_path" not in one:
                what = "port: with workers above 1 all processes share it, so it has to have a number"
                reader.wrong(("listener", index, "port"), what)


def _fault(url: str) -> str:
    """What is wrong with an address; "" if nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f'"{url[:60]}" has no port that can be: nats://HOST:{NATS_PORT} is wanted'
    if parts.scheme not in SCHEMES or not parts.hostname:
        return f"nats://HOST:PORT or tls://HOST:PORT is wanted, not {_shown(url)}"
    if port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"nothing is wanted behind HOST:PORT, and a port from 1 on, not {_shown(url)}"
    return ""


def _shown(url: str) -> str:
    """Without a password."""
    return f'"{url.rpartition("@")[2][:60]}"'
