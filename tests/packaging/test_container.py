"""The Dockerfile's steps, carried out in empty Debians by chroot, so that it can't rot where no container engine is.

Understands the instructions that our file has, and no others.  As root, with debootstrap, ip and unshare.
`ROWCAST_DEBIAN` may name a folder with a minimal Debian, to save making one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("chroot", "unshare", "ip")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for chroot"),
    pytest.mark.skipif(not all(shutil.which(tool) for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]
CONFIGURATION = ("etc/resolv.conf", "etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/pip.conf")
"""How this machine reaches packages."""

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def instructions() -> Iterator[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


class Stage:
    """One image in the making: a folder, and what was said of it."""

    def __init__(self, base: Path, root: Path) -> None:
        subprocess.run(["cp", "--archive", "--reflink=auto", base, root], check=True)
        self.root = root
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.user = "0:0"
        self.folder = "/"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []
        for name in CONFIGURATION:
            self._lend(name)
        if AUTHORITIES.exists():  # those that this machine trusts, be it a proxy's
            shutil.copyfile(AUTHORITIES, self.root / "etc" / "authorities.crt")

    def _lend(self, name: str) -> None:
        there, here = Path("/") / name, self.root / name
        if there.is_dir():
            shutil.copytree(there, here, dirs_exist_ok=True)
        elif there.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, here)

    def run(self, command: str) -> None:
        more = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        more |= {"ROWCAST_COMPILE": "0", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        if AUTHORITIES.exists():
            more["PIP_CERT"] = "/etc/authorities.crt"
        done = subprocess.run(
            ["chroot", self.root, "/bin/sh", "-c", command],
            env=self.environment | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def copy(self, words: list[str], stages: dict[str, Stage]) -> None:
        source_root = ROOT
        if words[0].startswith("--from="):
            source_root = stages[words.pop(0).removeprefix("--from=")].root
        source, target = source_root / words[0].lstrip("/"), self.root / words[1].lstrip("/")
        if source == ROOT / ".":
            tracked = subprocess.run(
                ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            for name in filter(None, tracked.stdout.split("\0")):
                if (ROOT / name).is_file():
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, target / name)
        elif source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def built(debian: Path, folder: Path) -> Stage:
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for name, rest in instructions():
        if name == "FROM":
            image, _, called = rest.partition(" AS ")
            assert image == "debian:bookworm-slim"
            stage = stages[called or "last"] = Stage(debian, folder / (called or "last"))
            continue
        assert stage is not None
        if name == "RUN":
            stage.run(rest)
        elif name == "COPY":
            stage.copy(shlex.split(rest), stages)
        elif name == "ENV":
            key, _, value = rest.partition("=")
            stage.environment[key] = value
        elif name == "USER":
            stage.user = rest
        elif name == "WORKDIR":
            stage.folder = rest
        elif name == "HEALTHCHECK":
            stage.health = json.loads(rest.partition("CMD ")[2])
        elif name in ("ENTRYPOINT", "CMD"):
            words = json.loads(rest)
            if name == "CMD":
                stage.command = words
            else:
                stage.entrypoint = words
        else:
            assert name in ("EXPOSE", "STOPSIGNAL"), f"this test does not know {name}"
    assert stage is not None
    return stage


def test_the_image_is_built_runs_as_mosquittos_user_and_is_healthy(debian: Path, tmp_path: Path) -> None:
    image = built(debian, tmp_path)
    start = shlex.join([*image.entrypoint, *image.command])
    health = shlex.join(image.health)
    script = f"""
        ip link set lo up
        (cd / && exec chroot --userspec={image.user} {image.root} {start}) 2>{tmp_path}/log &
        rowcast=$!
        for _ in $(seq 200); do
            chroot --userspec={image.user} {image.root} {health} >/dev/null 2>&1 && break
            sleep 0.1
        done
        chroot --userspec={image.user} {image.root} {health} || exit 1
        chroot --userspec={image.user} {image.root} rowcast ctl --url http://127.0.0.1:6789 status || exit 2
        grep Uid /proc/$rowcast/status
        kill -TERM $rowcast
        wait $rowcast
        echo "ended with $?"
    """
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        env=image.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    log = (tmp_path / "log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "\nready\n" in done.stdout
    assert "Uid:\t1883\t1883" in done.stdout
    assert done.stdout.endswith("ended with 0\n"), done.stdout + log
    assert json.loads(log.splitlines()[0])["event"] == "starting"
    assert (image.root / "mosquitto" / "data").stat().st_uid == 1883
