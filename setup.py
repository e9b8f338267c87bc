"""The part of the build that data can't say: the hot modules, compiled by mypyc where a compiler is.

`ROWCAST_COMPILE=0` leaves them interpreted; so does a machine without a C compiler (`optional`).  `ROWCAST_OPTIMISE=0`
asks the C compiler for less (gcc's -O0 in place of -O3): the same modules in a tenth of the time, for tests.
"""

import os
import pathlib
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - for those who run it by hand
    sys.exit(f"Rowcast needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

import tomllib

from setuptools import setup

HERE = pathlib.Path(__file__).parent
BUILDING = {"build", "build_ext", "bdist_wheel", "editable_wheel", "install", "develop"}
HOT_MODULES: list[str] = tomllib.loads((HERE / "hot-modules.toml").read_text())["modules"]


def compiled_extensions() -> list[object]:
    # pip asks for names and needs first, in processes of their own; that needs no compiling.
    if os.environ.get("ROWCAST_COMPILE", "1") == "0" or not BUILDING & set(sys.argv):
        return []
    from mypyc.build import mypycify

    print(
        "rowcast: compiling the busiest modules, which takes some minutes; ROWCAST_COMPILE=0 leaves them out",
        flush=True,
    )
    present = [path for path in HOT_MODULES if (HERE / path).exists()]
    # The project's own mypy settings name whole packages; only the hot modules are wanted here.
    flags = [f"--config-file={os.devnull}", "--ignore-missing-imports", "--follow-imports=silent"]
    flags.append("--platform=linux")  # what other systems lack is asked for at run time
    # Without debug information the C compiler needs a third less time.
    level = os.environ.get("ROWCAST_OPTIMISE", "3")
    extensions = mypycify([*flags, *present], opt_level=level, debug_level="0", group_name="rowcast")
    for extension in extensions:
        extension.optional = True
        # Python's own flags ask for every warning: more than half of gcc's time, about C that nobody reads.  -w alone
        # would only keep it from saying what it has found.  The list is one for all of them.
        if sys.platform != "win32":
            extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-all", "-w"]
        if sys.platform == "linux":
            # Else one compiled function's call of another goes through a table, in case somebody had replaced it, and
            # is never inlined: a tenth of what a small message takes, a twentieth of a delivery at QoS 1.
            extension.extra_compile_args.append("-fvisibility=hidden")
            extension.extra_link_args = [*extension.extra_link_args, "-Wl,-Bsymbolic-functions"]
    return list(extensions)


setup(ext_modules=compiled_extensions())
