"""What reading JSON of other nodes fails with: nothing that anybody puts there may end this node."""

from __future__ import annotations

from typing import Final

UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""Of texts, and of values that are not what their names say: `"[" * 100000`, a text that is a number, `Infinity`."""
