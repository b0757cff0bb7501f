"""The house style, guarded: sizes, names, docstrings, imports, words.

Reads every file that git knows or would add; runs nothing. An exception to a rule stands here with
its reason, and is dropped when it is no longer needed.
"""

import ast
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("stoker_api", "stoker_operator", "stoker_gateway", "stoker_cli", "stoker_runtime")
ROOTS = ("operator", "runtime", "models")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = {"product": 50, "test": 40, "kernel": 100}
MAX_PARAMETERS = 5
MAX_DEPTH = 3
MAX_HANDLER_LINES = 25
MAX_DOCSTRING_LINES = 11
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "manager"}

LONG_FILES: dict[str, str] = {}
"""File → why it is longer than others."""
LONG_FUNCTIONS: dict[str, str] = {}
"""`file:function` → why it is longer than others."""
MANY_PARAMETERS: dict[str, str] = {
    "operator/stoker_cli/chat.py:chat": "the options of a command",
}
"""`file:function` → why it takes more than others."""
DEEP_FUNCTIONS: dict[str, str] = {}
"""`file:function` → why it is nested deeper than others."""

IMPORTS_ALLOWED = {
    "triton": ("runtime/stoker_runtime/kernels/",),
    "kopf": ("operator/stoker_operator/handlers/", "operator/stoker_operator/process.py"),
    "kubernetes": (
        "operator/stoker_operator/cluster/",
        "operator/stoker_gateway/watch.py",
        "operator/stoker_cli/",
    ),
    "fastapi": ("operator/stoker_gateway/app.py", "runtime/stoker_runtime/server/"),
    "transformers": ("tests/", "models/"),
    "httpx": (),
    "torch": (
        "runtime/stoker_runtime/engine/",
        "runtime/stoker_runtime/model/",
        "runtime/stoker_runtime/quant/",
        "runtime/stoker_runtime/kernels/",
        "models/",
    ),
}
"""Library → the only places that may import it."""

FORBIDDEN_TEXT = {
    r"(?<![\w.~-])/(?:work\b|root/\w)": "a path of one machine",
    r"(?i)--(?:extra-)?index-url|trusted-host": "a package registry of one machine",
    r"\b(?:TODO|FIXME|XXX)\b(?!.*#\d)": "a loose end without an issue",
    r"^\s*#\s*[-=#*]{4,}": "a section banner",
    r"(?i)\b(?:pickle\.loads?|trust_remote_code=True)\b": "code from data",
}
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".tpl", ".txt", ".sh", ".json", ""}

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
    return (module for module in modules() if module.path.startswith(ROOTS))


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, FunctionNode]]:
    """Every function with its dotted name, methods and inner functions included."""
    for child in ast.iter_child_nodes(node):
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


def limit(module: Module) -> int:
    kind = "test" if module.is_test else "kernel" if "/kernels/" in module.path else "product"
    return MAX_FUNCTION_LINES[kind]


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
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        own = 1 if isinstance(child, BLOCKS) and not is_elif else 0
        deepest = max(deepest, own + depth(child))
    return deepest


def offenders(measure: Callable[[FunctionNode], int], most: int) -> dict[str, int]:
    """`file:function` → measure of every function that exceeds it."""
    return {
        f"{module.path}:{name}": measure(function)
        for module in modules()
        for name, function in functions(module.tree)
        if measure(function) > most
    }


def assert_only(found: dict[str, int], allowed: dict[str, str] | None = None) -> None:
    """Only what has a reason may break the rule, and every reason is still needed."""
    allowed = allowed or {}
    new = [f"{name}: {measure}" for name, measure in found.items() if name not in allowed]
    assert_none(new + [f"no longer needed: {name}" for name in allowed if name not in found])


def assert_none(found: list[str]) -> None:
    """Print every offender, one a line."""
    assert not found, "\n" + "\n".join(found)


def test_files_are_one_noun_long() -> None:
    long = {m.path: m.text.count("\n") for m in modules() if m.text.count("\n") > MAX_FILE_LINES}
    assert_only(long, LONG_FILES)


def test_functions_fit_on_a_screen() -> None:
    long = {
        f"{module.path}:{name}": length(function)
        for module in modules()
        for name, function in functions(module.tree)
        if length(function) > limit(module)
    }
    assert_only(long, LONG_FUNCTIONS)


@pytest.mark.parametrize("package", PACKAGES)
def test_most_functions_are_short(package: str) -> None:
    lengths = [
        length(function)
        for module in product()
        if f"/{package}/" in module.path
        for _, function in functions(module.tree)
    ]
    assert statistics.median(lengths) <= 8
    assert statistics.quantiles(lengths, n=10)[-1] <= 25


def test_functions_take_few_parameters() -> None:
    many = offenders(parameters, MAX_PARAMETERS)
    assert_only(many, MANY_PARAMETERS)


def test_functions_return_early_instead_of_nesting() -> None:
    deep = offenders(depth, MAX_DEPTH)
    assert_only(deep, DEEP_FUNCTIONS)


def test_handlers_only_hand_over() -> None:
    long = {
        f"{module.path}:{name}": length(function)
        for module in product()
        if "/handlers/" in module.path
        for name, function in functions(module.tree)
        if any("kopf.on" in ast.unparse(decorator) for decorator in function.decorator_list)
        and length(function) > MAX_HANDLER_LINES
    }
    assert_only(long)


def test_files_are_named_after_what_is_in_them() -> None:
    named = {m.path for m in modules() if {*Path(m.path).parts, m.name} & FORBIDDEN_NAMES}
    assert_none(sorted(named))


def test_no_folder_shadows_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "tests" / "operator").exists()


def test_every_module_says_what_it_knows() -> None:
    wrong = [
        f"{module.path}: {docstring_lines(module.tree)} lines"
        for module in product()
        if not is_well_introduced(module)
    ]
    assert_none(wrong)


def is_well_introduced(module: Module) -> bool:
    """A docstring of a few lines; entry points need one, `errors.py` draws its hierarchy."""
    lines = docstring_lines(module.tree)
    if module.name in ("__init__", "__main__"):
        return lines >= 1
    return 2 <= lines <= MAX_DOCSTRING_LINES or (module.name == "errors" and lines >= 2)


def test_every_other_module_has_a_docstring() -> None:
    silent = [
        module.path for module in modules() if module.text and not docstring_lines(module.tree)
    ]
    assert_none(silent)


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def undocumented(node: ast.AST, prefix: str = "") -> Iterator[str]:
    """Public classes, functions and methods without a docstring; `forward` is its class's."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if is_public(child.name) and child.name != "forward" and not ast.get_docstring(child):
            yield f"{prefix}{child.name}"
        if isinstance(child, ast.ClassDef) and is_public(child.name):
            yield from undocumented(child, f"{prefix}{child.name}.")


def test_everything_public_is_explained() -> None:
    silent = [f"{m.path}:{name}" for m in product() for name in undocumented(m.tree)]
    assert_none(silent)


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of everything a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("library", IMPORTS_ALLOWED)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    allowed = (*IMPORTS_ALLOWED[library], "tests/")
    strays = [
        module.path
        for module in modules()
        if library in imported(module.tree) and not module.path.startswith(allowed)
    ]
    assert_none(strays)


def test_assertions_say_what_cannot_happen() -> None:
    bare = [
        f"{module.path}:{node.lineno}"
        for module in product()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert) and node.msg is None
    ]
    assert_none(bare)


def test_only_packages_list_what_they_export() -> None:
    listing = [m.path for m in modules() if m.name != "__init__" and "__all__" in m.text]
    assert_none([path for path in listing if path != "tests/test_house_style.py"])


def test_tests_are_sentences_and_use_the_real_thing() -> None:
    wrong = [
        f"{module.path}:{name}"
        for module in modules()
        if module.is_test
        for name, _ in functions(module.tree)
        if name.startswith("test_") and ("_should_" in name or name.count("_") < 2)
    ]
    assert_none(wrong)
    assert_none([m.path for m in modules() if "mock" in imported(m.tree) | {m.name}])


def test_fast_tests_do_not_sleep() -> None:
    sleepers = [
        f"{module.path}:{node.lineno}"
        for module in modules()
        if module.path.startswith("tests/stoker_")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    ]
    assert_none(sleepers)


def test_tests_mirror_the_modules() -> None:
    known = {module.path.partition("/")[2] for module in product()}
    lost = []
    for module in modules():
        folder, _, file = module.path.removeprefix("tests/").rpartition("/")
        if folder.startswith("stoker_") and file.startswith("test_"):
            mirrored = f"{folder}/{file.removeprefix('test_')}"
            if mirrored not in known and f"{folder}/{module.name[5:]}/__init__.py" not in known:
                lost.append(module.path)
    assert_none(lost)


@pytest.mark.parametrize("pattern", FORBIDDEN_TEXT, ids=FORBIDDEN_TEXT.values())
def test_files_speak_of_the_project_alone(pattern: str) -> None:
    found = []
    for path in files():
        if Path(path).suffix not in TEXT_SUFFIXES or path == "tests/test_house_style.py":
            continue
        lines = (ROOT / path).read_text(errors="replace").splitlines()
        found += [
            f"{path}:{n}: {line.strip()[:80]}"
            for n, line in enumerate(lines, 1)
            if re.search(pattern, line)
        ]
    assert_none(found)
