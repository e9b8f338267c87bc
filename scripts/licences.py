"""Print the licences of everything installed beside this Python that Rowcast needs, for those who get a binary."""

from __future__ import annotations

import builtins
import importlib.metadata as metadata
import re
import sysconfig
from pathlib import Path

NOTICE = """\
This file goes with the single-file program `rowcast`, which contains Rowcast, Python, and the packages below.

psycopg and psycopg-binary are under the GNU Lesser General Public License, version 3 (text below).  They are used
as they are published.  To run Rowcast with another version of them, build the program again from Rowcast's source
with that version installed: scripts/build-binary does all of it.  psycopg-binary contains libpq (PostgreSQL Licence)
and OpenSSL (Apache Licence 2.0).
"""
GPL = Path("/usr/share/common-licenses/GPL-3")
"""The LGPL is a supplement to it, and wants to be accompanied by it.  Debian's place."""
NAMES = re.compile(r"licen[cs]e|copying|notice|authors", re.IGNORECASE)


def needed(root: str) -> list[str]:
    """A distribution and all that it needs, without extras, by name."""
    found: dict[str, None] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        found[name] = None
        for requirement in requirements:
            marker = requirement.partition(";")[2]
            if "extra" not in marker or (name == "psycopg" and "binary" in marker):
                waiting.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return sorted(found)


def texts(name: str) -> list[str]:
    """The licence files that a distribution brings."""
    files = metadata.files(name) or []
    return [
        Path(str(path.locate())).read_text(encoding="utf-8", errors="replace")
        for path in files
        if NAMES.search(path.name) and ".dist-info" in str(path) and not path.name.endswith(".py")
    ]


def main() -> None:
    print(NOTICE)
    for name in needed("rowcast"):
        about = metadata.metadata(name).json
        licence = str(about.get("license_expression") or about.get("license") or "see below")
        title = f"{name} {about['version']}: {licence.splitlines()[0]}"
        print_section(title, "\n\n".join(text.strip() for text in texts(name)))
    print_section("Python", python_licence())
    if GPL.exists():
        print_section("GNU General Public License, version 3", GPL.read_text())


def print_section(title: str, text: str) -> None:
    print("=" * 100)
    print(f"{title}\n\n{text.strip()}\n")


def python_licence() -> str:
    path = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    return path.read_text() if path.exists() else str(builtins.license).strip()


if __name__ == "__main__":
    main()
