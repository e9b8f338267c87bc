"""The Debian package in an empty Debian: installed, run as its unit says, removed, and purged without a rest.

Of `dist/rowcast`, the single file: `make binary` makes it.  As root.  `ROWCAST_DEBIAN`: see conftest.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.version import VERSION

ROOT = Path(__file__).parents[2]
UNIT = "lib/systemd/system/rowcast.service"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for chroot"),
    pytest.mark.skipif(
        not all(shutil.which(tool) for tool in ("chroot", "unshare", "ip", "dpkg-deb")), reason="needs tools"
    ),
    pytest.mark.skipif(not (ROOT / "dist" / "rowcast").exists(), reason="needs dist/rowcast: make binary"),
]
DPKG_S_OWN = (
    "var/lib/dpkg/",
    "var/log/",
    "var/cache/",
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/gshadow",
)
"""Files that differ after any package; backups of accounts among them."""


def files(root: Path) -> set[str]:
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    return {name for name in found if not name.startswith(DPKG_S_OWN)}


def inside(root: Path, *command: str) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["chroot", root, *command], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def root(debian: Path, tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "root"
    subprocess.run(["cp", "--archive", "--reflink=auto", debian, made], check=True)
    yield made
    shutil.rmtree(made)


def settings(unit: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(name + "=")]


def test_the_package_is_installed_runs_and_leaves_nothing(root: Path) -> None:
    made = subprocess.run(["scripts/build-deb"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (package,) = (ROOT / "dist").glob(f"rowcast_{VERSION}_*.deb")
    before = files(root)
    shutil.copy(package, root / "rowcast.deb")
    inside(root, "dpkg", "--install", "/rowcast.deb")
    (root / "rowcast.deb").unlink()
    assert f"version {VERSION}" in inside(root, "rowcast", "--version")
    unit = (root / UNIT).read_text()
    (start,) = settings(unit, "ExecStart")
    runtime = root / "run" / settings(unit, "RuntimeDirectory")[0]
    user = inside(root, "id", "-u", settings(unit, "User")[0]).strip()
    group = inside(root, "id", "-g", settings(unit, "Group")[0]).strip()
    for name, mode in (("var/lib/rowcast", 0o700), ("var/log/rowcast", 0o750)):
        status = (root / name).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (int(user), mode)
    runtime.mkdir(mode=0o755)
    os.chown(runtime, int(user), int(group))  # as systemd does
    health = f"chroot {root} rowcast ctl -c /etc/rowcast/rowcast.toml health"
    script = f"""
        ip link set lo up
        chroot --userspec={user}:{group} {root} {start} 2>{root}/log &
        rowcast=$!
        for _ in $(seq 100); do
            {health} >/dev/null 2>&1 && break
            sleep 0.2
        done
        {health} || exit 1
        kill -TERM $rowcast
        wait $rowcast
        echo "ended with $?"
    """
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    log = (root / "log").read_text()
    (root / "log").unlink()
    assert done.stdout.endswith("ended with 0\n"), done.stdout + done.stderr + log
    shutil.rmtree(runtime)
    inside(root, "dpkg", "--remove", "rowcast")
    assert (root / "etc/rowcast/rowcast.toml").exists(), (
        "what an administrator wrote stays until it is purged"
    )
    assert not (root / "usr/bin/rowcast").exists()
    inside(root, "dpkg", "--purge", "rowcast")
    assert files(root) - before == set()
    assert "rowcast" not in (root / "etc/passwd").read_text()
