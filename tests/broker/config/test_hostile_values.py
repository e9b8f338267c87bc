"""The one list of hostile values as values of every option, in both kinds of configuration file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.hostile_values import TEXTS, VALUES

from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load as load_conf
from broker.config.mosquitto.options import OPTIONS
from broker.config.toml.configuration import load as load_toml

ROOT = Path(__file__).parents[3]
LITERALS = [
    *(
        json.dumps(text, ensure_ascii=True).replace("\\ud800", "\\ufffd")
        for text in TEXTS
        if len(text) < 70_001
    ),
    *(
        "9" * 400,
        "-1",
        "1e400",
        "inf",
        "-inf",
        "nan",
        "true",
        "[]",
        "[[]]",
        "{}",
        "{ a = 1 }",
        "[1, 'a', {}]",
    ),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "9223372036854775808", "-0", "0.00000010"),
    *(repr(text) for text in ("env:", "env:\t", "env:NOT_SET", "\x07", "file:///", "postgresql://\u202e")),
]
"""Values as TOML writes them; some are no TOML."""


def documents() -> list[str]:
    """Each example, and each block in the documentation that is TOML."""
    found = [path.read_text() for path in sorted((ROOT / "examples").glob("*.toml"))]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        found += re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    return [text for text in found if "=" in text]


DOCUMENTS = documents()
KEY = re.compile(r"^(\s*[\w.\"-]+\s*=\s*)(\S.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def mistakes_of(load: Callable[[], object]) -> tuple[str, ...]:
    """What is wrong, or nothing; anything but a ConfigError with mistakes is a bug."""
    try:
        load()
    except ConfigError as error:
        return error.mistakes or ("a ConfigError without mistakes",)
    return ()


def read_toml(text: str, path: Path) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    mistakes = mistakes_of(lambda: load_toml(path, {"DATABASE_URL": "postgresql://localhost/x"}))
    assert all(mistake.startswith(str(path)) for mistake in mistakes), mistakes


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A document, one or two of whose values are hostile."""
    text = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(1, 2))):
        places = list(KEY.finditer(text))
        if places:
            place = draw(st.sampled_from(places))
            text = text[: place.start(2)] + draw(st.sampled_from(LITERALS)) + text[place.end(2) :]
    return text


@settings(
    max_examples=cases(300),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(text=changed())
def test_values_of_toml(folder: Path, text: str) -> None:
    read_toml(text, folder / "rowcast.toml")


@pytest.mark.slow
@pytest.mark.parametrize("text", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_every_value_of_every_document(folder: Path, text: str) -> None:
    for place in KEY.finditer(text):
        for literal in LITERALS:
            read_toml(text[: place.start(2)] + literal + text[place.end(2) :], folder / "each.toml")


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_whole_toml_files(folder: Path, value: bytes) -> None:
    path = folder / "whole.toml"
    for data in (
        value,
        b"[limits]\nmax_connections = " + value,
        b"[" + value[:1000] + b"]\n",
        value + b" = 1\n",
    ):
        path.write_bytes(data)
        mistakes = mistakes_of(lambda: load_toml(path, {}))
        assert all(mistake.startswith(str(path)) for mistake in mistakes), mistakes


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_every_option_of_mosquitto_conf(folder: Path, value: bytes) -> None:
    path = folder / "mosquitto.conf"
    short = value[:3000]
    path.write_bytes(b"listener 1883\n" + b"".join(b"%b %b\n" % (name.encode(), short) for name in OPTIONS))
    mistakes = mistakes_of(lambda: load_conf(path, environment={}))
    assert all(mistake.startswith("Error: ") for mistake in mistakes), mistakes


def test_the_documents_are_what_they_seem() -> None:
    assert len(DOCUMENTS) > 20
    assert sum(bool(tomllib.loads(text)) for text in DOCUMENTS[:3]) == 3
