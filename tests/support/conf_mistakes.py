"""Mistakes in mosquitto.conf, as tests/broker/config/mosquitto/mistakes lists them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.config.model import Config, ConfigError
from broker.config.mosquitto.configuration import load

Read = Callable[..., Config]

LISTS = Path(__file__).parent.parent / "broker" / "config" / "mosquitto" / "mistakes"


def cases_of(*names: str) -> list[Any]:
    """Those of these lists."""
    cases = []
    for name in names:
        for case in tomllib.loads((LISTS / f"{name}.toml").read_text(encoding="utf-8"))["mistake"]:
            cases.append(pytest.param(case, id=case["name"]))
    return cases


def write_files(case: dict[str, Any]) -> None:
    """In the working directory."""
    Path("main.conf").write_bytes(case["conf"].encode(case.get("encoding", "utf-8")))
    for name, text in case.get("files", {}).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, newline="")


def check(case: dict[str, Any]) -> None:
    """Every mistake of the file is told with file, line, Mosquitto's words and a cure, and nothing else."""
    write_files(case)
    with pytest.raises(ConfigError) as caught:
        load(Path("main.conf"), environment={})
    assert list(caught.value.mistakes) == [
        f"Error: {told['text']} Found at {told['file']}:{told['line']}. {told['cure']}"
        for told in case["expected"]
    ]
    assert all(told["cure"] for told in case["expected"])
