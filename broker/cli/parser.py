"""How every command reads its words."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from broker.cli.exits import EXIT_CONFIG


class Parser(argparse.ArgumentParser):
    """Of a command, and of all below it: a mistake ends with the broker's status for one, and says where to look."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words, how they are used, and where an example is."""
        self.print_usage(sys.stderr)
        command = " ".join(self.prog.split()[:2])
        self.exit(
            EXIT_CONFIG, f"{self.prog}: error: {message}\nAn example is at the end of `{command} --help`.\n"
        )
