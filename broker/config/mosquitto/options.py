"""Every word that Mosquitto 2.1 knows in mosquitto.conf: where it stands, its value, what it does.

One table, `OPTIONS`, put together from three lists by subject.  The reader (`reader`) obeys it,
docs/mosquitto-conf.md is written from it, and nothing else knows a word's type or range.  Error texts are
Mosquitto's, since scripts look for them.

Source: mosquitto.conf(5) and the behaviour of Mosquitto 2.1.2.
"""

from __future__ import annotations

from attrs import evolve

from broker.config.mosquitto import options_bridge, options_broker, options_listener
from broker.config.mosquitto.option import Option


def find_option(name: str) -> Option | None:
    """The option of that name; `plugin_opt_x` and `auth_opt_x` are the ones with a `*`, under their own name."""
    option = OPTIONS.get(name)
    if option is None and name.startswith(("plugin_opt_", "auth_opt_")):
        family = name[: name.index("opt_") + 4] + "*"
        return evolve(OPTIONS[family], name=name, alias_of=family)
    return option


def _table() -> dict[str, Option]:
    listed = (*options_broker.LISTED, *options_listener.LISTED, *options_bridge.LISTED)
    table = {option.name: option for option in sorted(listed, key=lambda option: option.name)}
    assert len(table) == len(listed), "a word stands twice in the table"
    return table


OPTIONS: dict[str, Option] = _table()
