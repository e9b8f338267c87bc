"""An `initdb` that copies what it made the first time: two seconds of a core are a tenth of one.

The folder of its script stands for that of the server's programs.  It is one for all processes of a test run, and
goes when the run ends (see `tests/conftest.py`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

RUN: Final = "ROWCAST_TEST_RUN"
"""The environment's variable that names a run of the tests: the process that began it."""

SCRIPT = """#!/bin/sh
set -eu
for word; do case "$word" in --pgdata=*) data=${word#*=} ;; esac; done
made=FOLDER/made/$(printf %s "$*" | sed 's/--pgdata=[^ ]*//' | cksum | tr ' ' -)
exec 9>"$made.lock"
flock 9
if [ -d "$made" ]; then
    exec cp -R "$made" "$data"
fi
PROGRAMS/initdb "$@"
cp -R "$data" "$made"
"""


def begin_run() -> None:
    """Name this run, unless it is a worker's of another process; remove what killed runs have left."""
    os.environ.setdefault(RUN, str(os.getpid()))
    for left in Path(tempfile.gettempdir()).glob("rowcast-initdb-*"):
        if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)


def end_run() -> None:
    """Remove what was made, in the process that began the run."""
    if os.environ.get(RUN) == str(os.getpid()):
        shutil.rmtree(_folder(), ignore_errors=True)


def quick_initdb(programs: Path) -> Path:
    """A folder with `initdb`, `postgres` and `psql`, of which the first is quick from the second time on.

    Args:
        programs: those of the server, as installed.
    """
    folder = _folder() / "bin"
    if not folder.exists():
        made = folder.with_name(f"bin.{os.getpid()}")
        made.mkdir(parents=True)
        # Whoever the server runs as writes there.
        (folder.parent / "made").mkdir(exist_ok=True)
        (folder.parent / "made").chmod(0o777)
        (made / "initdb").write_text(
            SCRIPT.replace("FOLDER", str(folder.parent)).replace("PROGRAMS", str(programs))
        )
        (made / "initdb").chmod(0o755)
        for name in ("postgres", "psql"):
            (made / name).symlink_to(programs / name)
        for one in (made, folder.parent):
            one.chmod(0o755)
        try:
            made.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(made)
    return folder


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"rowcast-initdb-{os.environ[RUN]}"
