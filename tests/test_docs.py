"""What the pages say, held where a machine can hold it: links, configurations, commands, names.

A block of `toml` or `conf` is a whole configuration, and is read as one; a `toml fragment` is part of one, and must
have no key that is not known.  `python` must compile.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from broker.cli.main import COMMANDS, main
from broker.config.arguments import Arguments, parse
from broker.config.model import ConfigError
from broker.config.mosquitto import configuration as mosquitto_conf
from broker.config.toml import configuration as toml

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OWN_TEST = {"docs/configuration.md"}
"""Their blocks make a configuration together; tests/broker/config holds that."""

FENCE = re.compile(r"^```(\w*)( fragment)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
NAME = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?:[ =`(])")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
POSTGRES = {"pg_upgrade", "max_slot_wal_keep_size", "max_replication_slots", "wal_level", "wal_writer_delay"}
"""Settings of the server's, not ours."""
KERNEL = {"io_uring"}

CTL_ACTIONS = ("clients", "kick", "subscriptions", "retained", "feeds")
FEED_VERBS = ("install", "show", "check", "remove")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(kind: str) -> list[Any]:
    """(page, fragment?, text) of every block of a kind, as parameters."""
    found = []
    for page in PAGES:
        for number, match in enumerate(FENCE.finditer(page.read_text())):
            if match[1] == kind and name_of(page) not in OWN_TEST:
                found.append(pytest.param(bool(match[2]), match[3], id=f"{name_of(page)}-{number}"))
    return found


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """As GitHub makes them: small letters, no punctuation, a hyphen for each space."""
    headings = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_line_below_a_tables_head_has_nothing_else(page: Path) -> None:
    """Whatever wraps long lines makes a paragraph of a table that it does not know."""
    rules = [line for line in page.read_text().splitlines() if "|---" in line]
    assert [line for line in rules if not set(line) <= set("|-: ")] == []


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs/README.md"
    linked = {
        (index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())
    }
    assert [name_of(page) for page in (ROOT / "docs").rglob("*.md") if page not in linked | {index}] == []


@pytest.mark.parametrize(("fragment", "text"), blocks("toml"))
def test_toml_is_a_configuration(fragment: bool, text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.toml"
    path.write_text(text)
    environment: defaultdict[str, str] = defaultdict(lambda: "s" * 32, DATABASE_URL="postgres:///shop")
    environment.update({name: environment[name] for name in re.findall(r"env:(\w+)", text)})
    for file in re.findall(r'file = "(.*?)"', text):
        (tmp_path / file).touch()
    mistakes = mistakes_of(path, environment)
    if fragment:
        mistakes = [mistake for mistake in mistakes if "unknown key" in mistake or "not TOML" in mistake]
    assert mistakes == []


def mistakes_of(path: Path, environment: Mapping[str, str]) -> list[str]:
    try:
        toml.load(path, environment)
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


@pytest.mark.parametrize(("fragment", "text"), blocks("conf"))
def test_conf_is_a_mosquitto_conf(fragment: bool, text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.conf"
    path.write_text(text)
    mosquitto_conf.load(path, Arguments())


@pytest.mark.parametrize(("fragment", "text"), blocks("python"))
def test_python_compiles(fragment: bool, text: str) -> None:
    compile(text, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands() -> list[object]:
    """The words behind `rowcast` in every shell block and in every span that is a whole command."""
    lines = {}
    for page in PAGES:
        shell = "".join(match[3] for match in FENCE.finditer(page.read_text()) if match[1] == "sh")
        spans = re.findall(r"`(rowcast [^`]+)`", prose(page))
        for line in [*shell.splitlines(), *spans]:
            match = re.search(r"(?:^|/bin/|^exec )rowcast (.*)$", line.split(" #")[0].strip())
            if match is not None:
                lines[match[1].strip()] = name_of(page)
    return [pytest.param(line, id=f"{page}: {line}") for line, page in lines.items()]


@pytest.mark.parametrize("line", commands())
def test_commands_exist_with_these_options(line: str) -> None:
    if line == "COMMAND --help":
        return
    words = [word for word in shlex.split(line.replace("…", "")) if word not in ("...", "&")]
    if words[0] not in COMMANDS:
        parse([word if word != "FILE" else "page.conf" for word in words])
        return
    command = words[:2] if words[0] == "feed" and words[1:2] else words[:1]
    known = help_of(*command)
    if words[0] == "ctl":
        actions = [word for word in words[1:] if word in CTL_ACTIONS]
        known += "".join(help_of("ctl", "--url", "x", action) for action in actions)
    unknown = [
        word for word in words if word.startswith("-") and not re.search(rf"(?<![\w-]){word}\b", known)
    ]
    assert unknown == []


@pytest.mark.parametrize(
    "command", [(), *((name,) for name in COMMANDS), *(("feed", verb) for verb in FEED_VERBS)]
)
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    text = help_of(*command)
    assert re.search(r"^examples?:\n +rowcast ", text, re.MULTILINE | re.IGNORECASE)


@cache
def help_of(*command: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return output.getvalue()


@cache
def everything_written() -> str:
    folders = ("broker", "protocol", "examples", "mosquitto-compat", "tests/support")
    endings = {".py", ".sql", ".toml", ".html", ".ts", ".mjs"}
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.suffix in endings]
    return "\n".join(path.read_text() for path in [*files, ROOT / "pyproject.toml"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_options_exist(page: Path) -> None:
    names = set(NAME.findall(prose(page))) - POSTGRES - KERNEL
    shown = "".join(match[3] for match in FENCE.finditer(page.read_text()))
    unit = "(_s|_bytes|_bytes_max)?"
    there = everything_written() + shown
    assert sorted(name for name in names if not re.search(rf"\b{name}{unit}\b", there)) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:broker|protocol|tests|examples|scripts|benchmarks|docs|mosquitto-compat)/[^`\s*…]*)`",
        prose(page),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


async def test_the_tests_of_the_embedding_page_pass() -> None:
    page = (ROOT / "docs/how-to/embed.md").read_text()
    code = next(match[3] for match in FENCE.finditer(page) if "async def test_" in match[3])
    namespace: dict[str, object] = {}
    exec(code, namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        assert callable(test)
        await test()


LOG_LINE = re.compile(r"^\| `([^`]*(?:…|\.)[^`]*)` \|", re.MULTILINE)


@cache
def literals() -> str:
    """Every text in the code, formatted parts cut out, one after the other."""
    found = []
    for path in (ROOT / "broker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-.0-9]*[a-z]", "\0", node.value))
    return "\n".join(found)


@pytest.mark.parametrize("line", LOG_LINE.findall((ROOT / "docs/troubleshooting.md").read_text()))
def test_the_log_lines_that_are_explained_are_written(line: str) -> None:
    parts = [part.strip(" :;.") for part in line.split("…")]
    assert [part for part in parts if part and part not in literals()] == []
