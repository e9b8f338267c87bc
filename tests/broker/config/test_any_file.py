"""Whatever stands in a file, the reader gives a configuration or mistakes with places; it never fails otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.rule_files import parse_acl, parse_passwords

from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load
from broker.config.mosquitto.options import OPTIONS
from broker.gateway.acl_file import AclError
from broker.gateway.passwords import PasswordFileError

NAMES = [name for name in OPTIONS if name not in ("include_dir",)]
VALUES = st.one_of(
    st.sampled_from(
        ["", " ", "true", "false", "0", "1", "-1", "65536", "0x", "2d", "a b", '"', '"" "', "#", "mqtt"]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.text(max_size=12),
)
LINES = st.one_of(
    st.tuples(st.sampled_from(NAMES), VALUES).map(" ".join),
    st.sampled_from(["listener 1883", "connection a", "per_listener_settings true", "plugin_load a b", ""]),
    st.text(max_size=20),
)
PLACE = re.compile(r"Error: .* Found at \S+?(:\d+)?\. \S", re.DOTALL)


def read(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    mistakes: tuple[str, ...] = ("Error: none Found at nowhere. x",)
    try:
        assert load(path, environment={}).listeners
    except ConfigError as error:
        mistakes = error.mistakes
    assert mistakes
    assert all(PLACE.match(mistake) for mistake in mistakes), mistakes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conf") / "main.conf"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(LINES, max_size=12))
def test_lines_that_look_like_options(path: Path, lines: list[str]) -> None:
    read("\n".join(lines).encode("utf-8", "surrogatepass"), path)


@given(data=st.binary(max_size=200))
def test_any_bytes(path: Path, data: bytes) -> None:
    read(data, path)


@given(
    data=st.one_of(
        st.binary(max_size=100), st.text(alphabet="user topicpatern%/+#read\n ", max_size=80).map(str.encode)
    )
)
def test_any_acl_file(data: bytes) -> None:
    mistakes: tuple[str, ...] = ()
    try:
        parse_acl(data, "acl").access(b"u", b"c").may_read(b"a/b")
    except AclError as error:
        mistakes = error.mistakes
    assert all("Found at acl:" in mistake for mistake in mistakes)


@given(data=st.one_of(st.binary(max_size=100), st.text(alphabet="ab:$67=A\n ", max_size=80).map(str.encode)))
def test_any_password_file(data: bytes) -> None:
    mistakes: tuple[str, ...] = ()
    try:
        parse_passwords(data, "passwords")
    except PasswordFileError as error:
        mistakes = error.mistakes
    assert all("Found at passwords:" in mistake for mistake in mistakes)
