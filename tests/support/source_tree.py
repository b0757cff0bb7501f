"""What the source tree consists of: files, modules, functions, and measures of them.

Reads every file that git knows or would add; knows no rule. `tests/test_house_style.py` has those.
"""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("operator/", "runtime/", "models/")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A Python file, parsed."""

    path: str
    text: str
    tree: ast.Module

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    @property
    def name(self) -> str:
        return Path(self.path).stem


@cache
def files() -> tuple[str, ...]:
    """Every file that is, or would be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for path in listed.splitlines() if (ROOT / path).is_file())


@cache
def modules() -> tuple[Module, ...]:
    texts = {path: (ROOT / path).read_text() for path in files() if path.endswith(".py")}
    return tuple(Module(path, text, ast.parse(text)) for path, text in sorted(texts.items()))


def product() -> Iterator[Module]:
    """The modules that are shipped, or make what is shipped."""
    return (module for module in modules() if module.path.startswith(PRODUCT))


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Child nodes in which further statements may stand: all but expressions."""
    return (child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr))


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, FunctionNode]]:
    """Every function with its dotted name, methods and inner functions included."""
    for child in statements(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{child.name}", child
        inner = f"{prefix}{child.name}." if hasattr(child, "name") else prefix
        yield from functions(child, inner)


def docstring_lines(node: ast.Module | ast.ClassDef | FunctionNode) -> int:
    text = ast.get_docstring(node)
    return len(text.splitlines()) if text else 0


def length(function: FunctionNode) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - docstring_lines(function)


def parameters(function: FunctionNode) -> int:
    """Parameters beside `self`; a test takes as many fixtures as it needs."""
    if function.name.startswith("test_"):
        return 0
    spec = function.args
    names = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)


def depth(node: ast.AST) -> int:
    """How deep choices and loops are nested; `elif` is no deeper, inner functions count anew."""
    deepest = 0
    for child in statements(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        own = 1 if isinstance(child, BLOCKS) and not is_elif else 0
        deepest = max(deepest, own + depth(child))
    return deepest


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def undocumented(node: ast.AST, prefix: str = "") -> Iterator[str]:
    """Public classes, functions and methods without a docstring; `forward` is its class's."""
    for child in statements(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if is_public(child.name) and child.name != "forward" and not ast.get_docstring(child):
            yield f"{prefix}{child.name}"
        if isinstance(child, ast.ClassDef) and is_public(child.name):
            yield from undocumented(child, f"{prefix}{child.name}.")


@cache
def imported(tree: ast.Module) -> frozenset[str]:
    """Top-level names of everything a module imports, wherever in it."""
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        waiting += statements(node)
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return frozenset(names)
