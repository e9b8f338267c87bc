"""A PgBouncer in front of a cluster, on a free port of 127.0.0.1; ends with the block."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.polling import until_listening
from support.ports import free_port
from support.postgres import Cluster


@contextmanager
def pgbouncer(cluster: Cluster, mode: str) -> Iterator[int]:
    """The port of a pool of this `pool_mode`."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        pytest.skip("no pgbouncer here: `apt-get install pgbouncer`")
    with tempfile.TemporaryDirectory(prefix="rowcast-pgbouncer-", dir="/tmp") as folder:
        port = free_port()
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host=127.0.0.1 port={cluster.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            f"pool_mode = {mode}\nunix_socket_dir =\nlogfile = {folder}/log\npidfile = {folder}/pid\n"
        )
        user = "postgres" if os.geteuid() == 0 else None  # PgBouncer refuses to run as root
        if user is not None:
            shutil.chown(folder, user)
        process = subprocess.Popen(
            [program, "-q", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user
        )
        try:
            until_listening(port)
            yield port
        finally:
            process.terminate()
            process.wait()
