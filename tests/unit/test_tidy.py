"""House rules that no linter knows, read from the syntax trees of libs/ and services/."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 300

MONEY_CODE = re.compile(r"libs/money/|services/\w+/domain/")
CLOCK_CODE = re.compile(r"libs/(clock|sdk)/")  # The SDK runs in other people's programs.
STOPWATCH_CODE = re.compile(r"libs/(clock|sdk|telemetry|rpc|messaging|process|embedded|cli)/")
# Nobody imports what Python, Alembic or a user of the SDK starts with.
ENTRANCES = re.compile(r"/(__init__|__main__|main)\.py$|/migrations/|^libs/sdk/")
ENTRY_POINT = re.compile(r"[a-z_]+(\.[a-z_]+)+:[a-z_]+")
"""Module and name, as of a command that is imported when it is called."""

WALL_CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
STOPWATCHES = {"time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns"}
# Columns of unnest are named beside it, by its aliases or by the INSERT.
SELECT_STAR = re.compile(r"\bselect\s+(\w+\.)?\*(?!\s+from\s+unnest\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Module:
    """A source file: its path from the root of the repository, with slashes, and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def name(self) -> str:
        parts = Path(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def at(self, node: ast.expr | ast.stmt, what: str) -> str:
        return f"{self.path}:{node.lineno}: {what}"


Rule = Callable[[Module], Iterator[str]]


def no_floats_in_money_code(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree) if MONEY_CODE.match(module.path) else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield module.at(node, f"float literal {node.value}")
        if isinstance(node, ast.Name) and node.id == "float":
            yield module.at(node, "float")


def no_clock_outside_libs_clock(module: Module) -> Iterator[str]:
    forbidden = set() if CLOCK_CODE.match(module.path) else set(WALL_CLOCKS)
    forbidden |= set() if STOPWATCH_CODE.match(module.path) else STOPWATCHES
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            read = ".".join(ast.unparse(node).split(".")[-2:])
            if read in forbidden:
                yield module.at(node, f"{read}: time is passed in")
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in forbidden:
                    yield module.at(node, f"{node.module}.{alias.name}: time is passed in")


def no_select_star(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SELECT_STAR.search(node.value):
            yield module.at(node, "select * instead of the columns that are read")


def no_long_function(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MAX_FUNCTION_LINES:
                yield module.at(node, f"{node.name} has {lines} lines, {MAX_FUNCTION_LINES} are allowed")


def no_long_module(module: Module) -> Iterator[str]:
    lines = len(module.text.splitlines())
    if lines > MAX_MODULE_LINES:
        yield f"{module.path}:{lines}: {lines} lines, {MAX_MODULE_LINES} are allowed"


def imported_names(module: Module) -> Iterator[str]:
    """Yield every dotted name that the module imports, be it a module or something in one."""
    package = module.name if module.path.endswith("__init__.py") else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ENTRY_POINT.fullmatch(node.value):
            yield node.value.partition(":")[0]


def unused_modules(modules: list[Module], importers: list[Module]) -> list[str]:
    used = {name for importer in importers for name in imported_names(importer)}
    candidates = [module for module in modules if not ENTRANCES.search(module.path)]
    return [f"{module.path}:1: nobody imports this module" for module in candidates if module.name not in used]


def modules_below(*folders: str) -> list[Module]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    written = [path for path in paths if not re.search(r"_pb2(_grpc)?\.py$", path.name)]
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in written]


RULES: list[Rule] = [
    no_floats_in_money_code,
    no_clock_outside_libs_clock,
    no_select_star,
    no_long_function,
    no_long_module,
]


class TestTheCode:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_keeps(self, rule: Rule) -> None:
        modules = modules_below("libs", "services")
        assert modules
        broken = [line for module in modules for line in rule(module)]
        assert not broken, "\n" + "\n".join(broken)

    def test_has_no_module_that_nobody_imports(self) -> None:
        modules = modules_below("libs", "services")
        unused = unused_modules(modules, modules + modules_below("benchmarks", "scripts"))
        assert not unused, "\n" + "\n".join(unused)


class TestTheRules:
    """A rule counts only once it has caught what it is for."""

    @pytest.mark.parametrize(
        ("rule", "path", "text", "line"),
        [
            (no_floats_in_money_code, "libs/money/money.py", "RATE = 0.1", 1),
            (no_floats_in_money_code, "services/rating/domain/price.py", "\nx = float('1')", 2),
            (no_clock_outside_libs_clock, "libs/ids/ids.py", "import datetime as dt\nx = dt.datetime.now(dt.UTC)", 2),
            (no_clock_outside_libs_clock, "libs/rpc/server.py", "from time import monotonic, time", 1),
            (no_clock_outside_libs_clock, "services/billing/domain/x.py", "def f():\n    return time.monotonic()", 2),
            (no_select_star, "services/billing/store/x.py", "QUERY = 'SELECT i.* FROM invoices i'", 1),
            (no_long_function, "libs/ids/ids.py", "def f():\n    'doc'\n" + "    x = 1\n" * 41, 1),
            (no_long_module, "libs/ids/ids.py", "x = 1\n" * 301, 301),
        ],
    )
    def test_find(self, rule: Rule, path: str, text: str, line: int) -> None:
        assert [found.split(": ")[0] for found in rule(Module(path, text))] == [f"{path}:{line}"]

    @pytest.mark.parametrize(
        ("rule", "path", "text"),
        [
            (no_floats_in_money_code, "libs/telemetry/ratio.py", "RATIO = 0.1"),
            (no_clock_outside_libs_clock, "libs/clock/clock.py", "x = datetime.now(UTC)"),
            (no_clock_outside_libs_clock, "libs/rpc/server.py", "x = time.monotonic()"),
            (no_clock_outside_libs_clock, "services/billing/domain/x.py", "x = tenant_clock.now(real_now)"),
            (no_select_star, "services/billing/store/x.py", "QUERY = 'SELECT count(*) FROM invoices'"),
            (
                no_long_function,
                "libs/ids/ids.py",
                "def f():\n    '''\n" + "doc\n" * 9 + "    '''\n" + "    x = 1\n" * 40,
            ),
            (no_long_module, "libs/ids/ids.py", "x = 1\n" * 300),
        ],
    )
    def test_let_pass(self, rule: Rule, path: str, text: str) -> None:
        assert list(rule(Module(path, text))) == []

    def test_know_all_forms_of_import(self) -> None:
        modules = [Module(f"libs/x/{name}.py", "") for name in ("a", "b", "c", "d", "dead", "main")]
        importer = "import libs.x.a\nfrom libs.x import b\nfrom libs.x.c import C\nfrom . import d\n"
        unused = unused_modules(modules, [Module("libs/x/main.py", importer)])
        assert unused == ["libs/x/dead.py:1: nobody imports this module"]
