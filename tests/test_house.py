"""Which package may import which, held by reading the source; so that a stranger can rely on the tree.

`protocol` is words: it knows no clock, socket, task or chance.  What decides in `broker` is synchronous: only the
modules listed here import Trio.  `links` and `feed` know the core, never each other.  `config` is a leaf.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_MAX = 400
FUNCTION_LINES_MAX = 45
LONG_FUNCTIONS = {
    "broker.core.engine.__init__": "a line for each part",
    "broker.core.session.__init__": "a line for each field",
    "broker.feed.fast.columns._row": "a hot loop",
    "broker.feed.outbox.feed._prepare": "as that of wal",
    "broker.feed.wal.feed._prepare": "the order of its questions is the point",
    "broker.ingest.flat.members_into": "a hot loop",
    "broker.links.mqtt.runs.read": "a hot loop",
    "broker.links.mqtt.runs5.read": "a hot loop",
}
"""Those that may be longer, not counting their docstrings, and why."""
WITHOUT_TEST_MAX = 0
"""Modules that are tested through others alone.  It only ever falls."""

AS_ELSEWHERE = {
    f"broker.links.tls_socket.Records.{name}"
    for name in ("do_handshake", "getpeercert", "read", "shutdown", "write")
}
"""Without a docstring: they are those of `ssl`."""

IMPURE = {
    "asyncio", "random", "secrets", "select", "selectors", "signal", "socket", "ssl", "subprocess", "threading",
    "time", "trio",
}  # fmt: skip

WAITS = {
    "broker.admin.committing",
    "broker.admin.http",
    "broker.admin.live",
    "broker.admin.publish_socket",
    "broker.admin.sockets",
    "broker.admin.site",
    "broker.app",
    "broker.cli.demo",
    "broker.cluster.behind",
    "broker.cluster.feeds",
    "broker.cluster.going",
    "broker.cluster.gossip",
    "broker.cluster.handshake",
    "broker.cluster.janitor",
    "broker.cluster.lease",
    "broker.cluster.link",
    "broker.cluster.liveness",
    "broker.cluster.log_end",
    "broker.cluster.node",
    "broker.cluster.owned",
    "broker.cluster.overdue",
    "broker.cluster.owners",
    "broker.cluster.publisher",
    "broker.cluster.quorum",
    "broker.cluster.reader",
    "broker.cluster.refill",
    "broker.cluster.repeats",
    "broker.cluster.retained_copy",
    "broker.cluster.rows",
    "broker.cluster.shares",
    "broker.cluster.streams",
    "broker.cluster.stretch",
    "broker.cluster.tasks",
    "broker.cluster.will_record",
    "broker.demo.clients",
    "broker.demo.devices.fleet",
    "broker.demo.devices.run",
    "broker.demo.dialects.market",
    "broker.demo.nodes.client",
    "broker.demo.nodes.run",
    "broker.demo.dialects.run",
    "broker.demo.postgres",
    "broker.demo.run",
    "broker.demo.simulator",
    "broker.drain",
    "broker.embed",
    "broker.feed.driver.connect",
    "broker.feed.driver.connection",
    "broker.feed.driver.failures",
    "broker.feed.driver.blockers",
    "broker.feed.listen.attention",
    "broker.feed.listen.feed",
    "broker.feed.listen.keyed_rows",
    "broker.feed.listen.listener",
    "broker.feed.outbox.feed",
    "broker.feed.slices",
    "broker.feed.snapshot",
    "broker.feed.supervise",
    "broker.feed.wal.feed",
    "broker.feed.wal.confirming",
    "broker.feed.wal.kept_place",
    "broker.feed.wal.stopping",
    "broker.feed.wal.stream",
    "broker.gateway.gateway",
    "broker.gateway.identity",
    "broker.gateway.tokens",
    "broker.ingest.hub",
    "broker.ingest.batches",
    "broker.ingest.writer",
    "broker.links.in_turns",
    "broker.links.linger",
    "broker.links.listening.deciding",
    "broker.links.listening.tickets",
    "broker.links.listening.turns",
    "broker.links.listening.accept",
    "broker.links.listening.entrance",
    "broker.links.mqtt.stream",
    "broker.links.runnable",
    "broker.links.pump",
    "broker.links.readiness",
    "broker.links.server",
    "broker.links.websocket.agreeing",
    "broker.links.websocket.farewell",
    "broker.links.websocket.handshake",
    "broker.links.websocket.open_links",
    "broker.links.websocket.pacer",
    "broker.links.websocket.rereading",
    "broker.links.websocket.room",
    "broker.links.websocket.state_reading",
    "broker.feed.current",
    "broker.links.websocket.stream",
    "broker.operation",
    "broker.marketdata.history",
    "broker.marketdata.intake.polled",
    "broker.marketdata.intake.sockets",
    "broker.marketdata.intake.running",
    "broker.marketdata.service",
    "broker.marketdata.udf",
    "broker.process.garbage",
    "broker.process.history",
    "broker.process.hand_over",
    "broker.process.reloading",
    "broker.process.run",
    "broker.process.token_keys",
    "broker.reports.gently",
    "broker.reports.pulse",
    "broker.storage.disk_thread",
    "broker.storage.journal",
    "broker.storage.keeper",
}
"""All that may import Trio.  A new one belongs here, after asking whether what it decides could stay outside."""

MAY_IMPORT = {
    "broker.config": {"broker.config", "protocol"},
    "broker.core": {"broker.core", "protocol"},
    "broker.links": {"broker.links", "broker.core", "broker.config", "broker.gateway", "protocol"},
    "broker.feed": {"broker.feed", "broker.core", "broker.config", "broker.gateway", "protocol"},
    "broker.gateway": {"broker.gateway", "broker.core", "broker.config", "protocol"},
    "broker.ingest": {
        "broker.ingest", "broker.feed.cures", "broker.feed.driver", "broker.feed.setup.findings",
        "broker.feed.setup.steps", "broker.core", "broker.config", "protocol",
    },
    "broker.market": {"broker.market", "protocol"},
    "broker.marketdata": {
        "broker.marketdata", "broker.market", "broker.feed", "broker.outlet", "broker.links", "broker.gateway",
        "broker.storage", "broker.core", "broker.config", "protocol",
    },
    "broker.cluster": {
        "broker.cluster", "broker.feed", "broker.outlet", "broker.ingest.message_ids", "broker.links", "broker.gateway",
        "broker.core", "broker.config", "protocol",
    },
    "broker.admin": {
        "broker.admin", "broker.reports", "broker.links", "broker.gateway", "broker.core", "broker.config", "protocol",
    },
    "broker.storage": {
        "broker.storage", "broker.links.bell", "broker.links.pump", "broker.process.system", "broker.core",
        "broker.config", "protocol",
    },
    "broker.feed.driver": {"broker.feed.driver", "broker.feed.status", "broker.config", "protocol"},
    "broker.feed.routing": {
        "broker.feed.routing", "broker.feed.status", "broker.core", "broker.config", "broker.gateway", "protocol",
    },
    "broker.feed.fast": {
        "broker.feed.fast", "broker.feed.routing", "broker.feed.listen.mark", "broker.feed.wal.progress",
        "broker.config", "protocol",
    },
}  # fmt: skip
"""Of our own packages; whoever is not named here may import any but `broker.demo`."""

COMMAND_LINE = {
    "broker.__main__", "broker.cli",
}  # fmt: skip
"""Reads configurations and starts things, wherever it stands."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(path): path for top in ("broker", "protocol") for path in (ROOT / top).rglob("*.py")}


def imports(module: str) -> Iterator[tuple[str, int]]:
    """(imported module, line) of every import statement, those inside functions included."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports name the whole path"
            assert node.module is not None
            # `from broker.links import pump` imports broker.links.pump.
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in SOURCES else node.module, node.lineno


def is_within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def broken(modules: list[str], is_allowed: object) -> list[str]:
    assert callable(is_allowed)
    return [
        f"{module}:{line} imports {imported}"
        for module in modules
        for imported, line in imports(module)
        if not is_allowed(imported)
    ]


def test_protocol_imports_only_itself_construct_attrs_and_the_pure_standard_library() -> None:
    def is_allowed(imported: str) -> bool:
        top = imported.split(".")[0]
        # mypy_extensions has names of types alone.
        return top in {"protocol", "construct", "attrs", "mypy_extensions"} or (
            top in sys.stdlib_module_names and top not in IMPURE
        )

    assert broken([module for module in SOURCES if is_within(module, {"protocol"})], is_allowed) == []


def test_only_the_listed_modules_import_trio() -> None:
    found = {
        module
        for module in SOURCES
        for imported, _ in imports(module)
        if imported.split(".")[0] in {"trio", "trio_websocket"}
    }
    assert found - WAITS == set(), "they wait, and are not listed"
    assert WAITS - found == set(), "they are listed, and do not wait"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_package_imports_only_what_it_may_know(package: str) -> None:
    allowed = MAY_IMPORT[package]
    modules = [
        module for module in SOURCES if is_within(module, {package}) and not is_within(module, COMMAND_LINE)
    ]
    assert broken(modules, lambda name: not is_within(name, {"broker"}) or is_within(name, allowed)) == []


@pytest.mark.parametrize("kind", ["listen", "outbox", "wal"])
def test_kinds_of_feeds_know_neither_each_other_nor_what_installs_them(kind: str) -> None:
    others = {f"broker.feed.{one}" for one in ("listen", "outbox", "wal", "setup") if one != kind}
    modules = [module for module in SOURCES if is_within(module, {f"broker.feed.{kind}"})]
    assert modules
    assert broken(modules, lambda name: not is_within(name, others)) == []


def test_only_websockets_know_websockets() -> None:
    modules = [
        module for module in SOURCES if is_within(module, {"broker.links.mqtt", "broker.links.listening"})
    ]
    assert modules
    assert broken(modules, lambda name: not is_within(name, {"broker.links.websocket"})) == []


def test_no_import_goes_in_a_circle() -> None:
    imported = {
        module: set(imported_at_start(ast.parse(path.read_text()).body)) for module, path in SOURCES.items()
    }
    while imported:
        leaves = {module for module, others in imported.items() if not others & (imported.keys() - {module})}
        assert leaves, f"each of these imports another of them: {sorted(imported)}"
        for module in leaves:
            del imported[module]


def imported_at_start(body: list[ast.stmt]) -> Iterator[str]:
    """The modules that a module's own lines import: not its functions', and not those for the type checker alone."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in SOURCES else str(node.module)
        elif (
            isinstance(node, (ast.If, ast.Try, ast.ClassDef))
            and "TYPE_CHECKING" not in ast.unparse(node)[:20]
        ):
            for part in ("body", "handlers", "orelse", "finalbody"):
                yield from imported_at_start(getattr(node, part, []))


def test_only_the_command_line_knows_the_demo() -> None:
    modules = [module for module in SOURCES if not is_within(module, {"broker.demo", *COMMAND_LINE})]
    assert broken(modules, lambda name: not is_within(name, {"broker.demo"})) == []


def test_every_exception_is_caught_in_the_barrier_only() -> None:
    catches = re.compile(r"^\s*except( (Base)?Exception\b.*)?:", re.MULTILINE)
    found = {
        module
        for module, path in SOURCES.items()
        for match in catches.finditer(path.read_text())
        if not reraises(path.read_text()[match.end() :])
    }
    assert found <= {
        "broker.core.barrier",
        "broker.links.barrier",
        "broker.outlet",
        "broker.feed.fast.columns",
    }


def reraises(handler: str) -> bool:
    """Whether the block that follows `except ...:` ends with a bare raise: it cleans up and hides nothing."""
    first = handler.lstrip("\n").split("\n")[0]
    indent = first[: len(first) - len(first.lstrip())]
    block = re.split(rf"\n(?!{indent}|\n|$)", handler.lstrip("\n"), maxsplit=1)[0]
    return block.rstrip().endswith(f"\n{indent}raise") or block.strip() == "raise"


def test_only_a_turn_sets_the_clock_and_flushes() -> None:
    part_of_a_turn = re.compile(r"engine\.now = |engine\.flush\(")
    found = {module for module, path in SOURCES.items() if part_of_a_turn.search(path.read_text())}
    # The pump closes sockets as a part of a turn, and sends what their ends caused.
    assert found == {"broker.core.turn", "broker.links.pump"}


def test_files_stay_small() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in SOURCES.items()}
    assert {module: length for module, length in lengths.items() if length > LINES_MAX} == {}


def test_functions_stay_small() -> None:
    found = {
        f"{module}.{node.name}"
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and code_lines(node) > FUNCTION_LINES_MAX
    }
    assert found - LONG_FUNCTIONS.keys() == set()


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without its docstring."""
    first = function.body[0]
    docstring = ast.get_docstring(function, clean=False)
    docstring_lines = 0 if docstring is None else (first.end_lineno or 0) - first.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - docstring_lines


def test_hot_modules_exist_and_are_as_plain_as_the_compiler_wants_them() -> None:
    hot = tomllib.loads((ROOT / "hot-modules.toml").read_text())["modules"]
    for path in hot:
        module = module_name(ROOT / path)
        assert module in SOURCES, f"hot-modules.toml names {path}"
        assert broken([module], lambda name: name.split(".")[0] not in {"attrs", "dataclasses"}) == []


def test_what_is_not_compiled_inherits_from_nothing_that_is() -> None:
    """Python would refuse to make such an object, in a compiled broker only."""
    hot = {
        path[:-3].replace("/", ".")
        for path in tomllib.loads((ROOT / "hot-modules.toml").read_text())["modules"]
    }
    closed = {
        (module, node.name)
        for module in hot
        for node in ast.walk(ast.parse(SOURCES[module].read_text()))
        if isinstance(node, ast.ClassDef) and not _may_be_inherited_from(node)
    }
    wrong = []
    for module in set(SOURCES) - hot:
        names = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(ast.parse(SOURCES[module].read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        wrong += [
            f"{module}.{node.name} inherits from {base.id}"
            for node in ast.walk(ast.parse(SOURCES[module].read_text()))
            if isinstance(node, ast.ClassDef)
            for base in node.bases
            if isinstance(base, ast.Name) and names.get(base.id) in closed
        ]
    assert not wrong, wrong


def _may_be_inherited_from(node: ast.ClassDef) -> bool:
    said = " ".join(ast.unparse(one) for one in (*node.decorator_list, *node.bases))
    return "allow_interpreted_subclasses=True" in said or "Protocol" in said


def test_each_package_says_what_it_holds() -> None:
    packages = {module: path for module, path in SOURCES.items() if path.name == "__init__.py"}
    assert len(packages) > 20
    assert [
        module for module, path in packages.items() if not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


def test_public_names_say_what_they_are() -> None:
    """By a docstring, or by that of the class that they inherit from."""
    trees = {module: ast.parse(path.read_text()) for module, path in SOURCES.items()}
    classes: dict[str, list[ast.ClassDef]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)
    silent = {
        f"{module}.{name}" for module, tree in trees.items() for name in _silent(tree.body, None, classes)
    }
    assert silent - AS_ELSEWHERE == set()


def test_texts_below_constants_belong_to_one() -> None:
    """What describes a constant goes with it."""
    found = [
        f"{module}:{node.lineno}"
        for module, path in SOURCES.items()
        for before, node in pairwise(ast.parse(path.read_text()).body)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and not isinstance(before, (ast.Assign, ast.AnnAssign))
    ]
    assert found == []


def _silent(
    body: list[ast.stmt], owner: ast.ClassDef | None, classes: dict[str, list[ast.ClassDef]]
) -> Iterator[str]:
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name[0] == "_":
            continue
        if any(ast.unparse(one).endswith((".setter", "overload")) for one in node.decorator_list):
            continue
        if not ast.get_docstring(node) and (owner is None or not _inherits(owner, node.name, classes)):
            yield node.name if owner is None else f"{owner.name}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _silent(node.body, node, classes)


def _inherits(owner: ast.ClassDef, name: str, classes: dict[str, list[ast.ClassDef]]) -> bool:
    """Whether a class that it comes from says what this method does; those of other packages are thought to."""
    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in owner.bases} - {"Protocol", "Generic"}
    if bases - classes.keys():
        return True
    above = [one for base in bases for one in classes[base] if one is not owner]
    return any(
        getattr(node, "name", "") == name and ast.get_docstring(node)  # type: ignore[arg-type]
        for one in above
        for node in one.body
    ) or any(_inherits(one, name, classes) for one in above)


def decides(path: Path) -> bool:
    """Whether a module has a condition or a loop of its own: tables, types and texts have none."""
    deciding = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.Match, ast.BoolOp, ast.comprehension)
    return any(isinstance(node, deciding) for node in ast.walk(ast.parse(path.read_text())))


def test_no_more_modules_are_without_a_test_at_their_path() -> None:
    without = [
        module
        for module, path in SOURCES.items()
        if not path.name.startswith("__")
        and not (ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.name}").exists()
        and decides(path)
    ]
    assert len(without) <= WITHOUT_TEST_MAX, (
        "a new module needs a test at its path, or an old one has lost its own"
    )


SMALL_S = 30
BOUNDED_BY_SECONDS = {"fail_after", "until", "until_blocking", "receive", "communicate", "wait", "run", "get"}
MAY_BE_SMALL = {
    "tests/broker/feed/wal/test_stopping.py": "what it is about is how long a server takes to stop",
}
QUICK_TESTS = [
    path
    for path in (ROOT / "tests").rglob("*.py")
    if not {"torture", "foreign"} & {*path.relative_to(ROOT).parts}
]


def test_no_test_fails_because_the_machine_is_busy() -> None:
    """Bounds on what has to come are long where the clock is a real one: what never comes takes as long as that."""
    assert [
        f"{path.relative_to(ROOT)}:{line}"
        for path in QUICK_TESTS
        if str(path.relative_to(ROOT)) not in MAY_BE_SMALL
        for line in _small_bounds(ast.parse(path.read_text()), has_clock=False)
    ] == []


def _small_bounds(node: ast.AST, has_clock: bool) -> Iterator[int]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _small_bounds(child, has_clock or "clock" in ast.unparse(child.args))
            continue
        if isinstance(child, ast.Call) and not has_clock:
            called = ast.unparse(child.func).rpartition(".")[2]
            bounds = [one.value for one in child.keywords if one.arg in ("timeout", "seconds", "within_s")]
            if called == "fail_after":
                bounds += child.args[:1]
            elif called in ("until", "until_blocking"):
                bounds += child.args[1:2]
            if called in BOUNDED_BY_SECONDS and any(_is_small(one) for one in bounds):
                yield child.lineno
        yield from _small_bounds(child, has_clock)


def _is_small(bound: ast.expr) -> bool:
    return isinstance(bound, ast.Constant) and isinstance(bound.value, (int, float)) and bound.value < SMALL_S


PORTS_OF_THEIR_OWN = {
    "tests/broker/feed/driver/test_connection.py": "a port that refuses while it is bound",
    "tests/broker/links/listening/test_inherited.py": "sockets that stay open",
    "tests/broker/marketdata/intake/test_sockets.py": "sockets that stay open",
    "tests/support/ports.py": "gives ports to all others",
}
"""Files that bind sockets by themselves, and why."""


def test_ports_for_processes_come_from_one_place() -> None:
    """A port that was free a moment ago may be another test's: `support.ports` gives each to one."""
    found = {
        str(path.relative_to(ROOT)) for path in QUICK_TESTS if re.search(r"\.bind\(\(", path.read_text())
    }
    assert found - PORTS_OF_THEIR_OWN.keys() == set()
