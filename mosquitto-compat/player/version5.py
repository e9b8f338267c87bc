"""A scenario of 3.1.1 as one of 5.0: the same steps, by clients and tools of version 5; or why not."""

from __future__ import annotations

import re
from dataclasses import replace

from player.scenario import DEFAULT_CONF, Scenario, Step

FOR_EVER = {"session-expiry-interval": "4294967295"}
"""What `clean=0` means in 3.1.1."""
LIMIT = "max_packet_size 2000000\n"
"""By default in 2.1, and none in 2.0: each CONNACK tells it."""
BYTES = ("raw", "case", "first")
OF_3 = ("flags", "extra", "name", "level")
TOOL = re.compile(r"mosquitto_(pub|sub)$")


def in_version_5(scenario: Scenario) -> Scenario | str:
    """The scenario to play, or why there is none."""
    steps = scenario.steps
    if any("version" in step.options or "-V" in step.arguments for step in steps):
        return "chooses versions itself"
    if any(step.verb in BYTES or any(name in step.options for name in OF_3) for step in steps):
        return "writes bytes of 3.1.1"
    if not any(step.verb == "connect" or _is_tool(step) for step in steps):
        return "has no client that chooses a version"
    files = {name: _limited(text) if "listener " in text else text for name, text in scenario.files.items()}
    conf = _limited(scenario.conf or DEFAULT_CONF)
    return replace(scenario, conf=conf, files=files, steps=[_step(step) for step in steps])


def _limited(conf: str) -> str:
    return conf if "max_packet_size" in conf else conf.rstrip("\n") + "\n" + LIMIT


def _is_tool(step: Step) -> bool:
    return (
        step.verb in ("run", "start") and bool(step.arguments) and TOOL.search(step.arguments[0]) is not None
    )


def _step(step: Step) -> Step:
    if step.verb == "connect":
        lasting = FOR_EVER if step.options.get("clean") == "0" else {}
        return replace(step, options={"version": "5", **lasting, **step.options})
    if _is_tool(step):
        return replace(step, arguments=[*step.arguments, "-V", "5"])
    return step
