"""Tables for a terminal."""

from __future__ import annotations

import pytest

from broker.cli.tables import print_table


def test_columns_are_as_wide_as_they_need_and_nothing_acts_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["client", "n"], [["ada", 10], ["\x1b[31mgrace\n", 2]])
    assert capsys.readouterr().out == "client       n\nada          10\n?[31mgrace?  2\n"
