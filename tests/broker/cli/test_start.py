"""What is done before anything is loaded."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, sys
from broker.cli.start import main

sys.argv = ["rowcast", "--test-config"]
generations = []
gc.callbacks.append(lambda phase, info: generations.append(info["generation"]))
status = main()
print(status, generations.count(0) < 5, "attrs" in sys.modules)
"""


def test_the_command_line_is_obeyed_and_loading_is_not_interrupted_by_the_collector() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "True", "True"]
    assert "Please provide a configuration file" in done.stderr
