"""A minimal Debian, for what is tried in an empty root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody changes it.  `ROWCAST_DEBIAN` may name a folder that has one, to save making it."""
    given = os.environ.get("ROWCAST_DEBIAN")
    if given:
        return Path(given)
    if shutil.which("debootstrap") is None:
        pytest.skip("needs Debian's package debootstrap, or ROWCAST_DEBIAN")
    sources = [*Path("/etc/apt/sources.list.d").glob("*"), Path("/etc/apt/sources.list")]
    text = "".join(path.read_text() for path in sources if path.is_file())
    mirror = re.findall(r"^(?:URIs: |deb )(\S+)", text, re.MULTILINE)[0]
    made = tmp_path_factory.mktemp("debian") / "root"
    command = ["debootstrap", "--variant=minbase", "bookworm", str(made), mirror]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    return made
