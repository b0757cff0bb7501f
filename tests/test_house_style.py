"""The house style, guarded: sizes, names, docstrings, imports, words.

Reads every file that git knows or would add; runs nothing. An exception to a rule stands here with
its reason, and is dropped when it is no longer needed.
"""

import ast
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from support.source_tree import (
    ROOT,
    FunctionNode,
    Module,
    depth,
    docstring_lines,
    files,
    functions,
    imported,
    length,
    modules,
    parameters,
    product,
    undocumented,
)

PACKAGES = ("stoker_api", "stoker_operator", "stoker_gateway", "stoker_cli", "stoker_runtime")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = {"product": 50, "test": 40, "kernel": 100}
MAX_PARAMETERS = 5
MAX_DEPTH = 3
MAX_SLEEP_S = 0.5
MAX_HANDLER_LINES = 25
MAX_DOCSTRING_LINES = 11
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "manager"}

LONG_FILES: dict[str, str] = {}
"""File → why it is longer than others."""
LONG_FUNCTIONS: dict[str, str] = {}
"""`file:function` → why it is longer than others."""
MANY_PARAMETERS: dict[str, str] = {
    "operator/stoker_cli/bench/command.py:bench": "the options of a command",
    "operator/stoker_cli/simulate/command.py:simulate": "the options of a command",
    "operator/stoker_cli/chat.py:chat": "the options of a command",
    "operator/stoker_cli/fit.py:fit": "the options of a command",
    "operator/stoker_cli/quantize.py:quantize": "the options of a command",
    "operator/stoker_cli/serve.py:serve": "the options of a command",
}
"""`file:function` → why it takes more than others."""
DEVICE = "/kernels/gpu/device/"
"""Where functions are compiled for GPUs, which know no dataclasses."""
DEEP_FUNCTIONS: dict[str, str] = {
    "runtime/stoker_runtime/kernels/gpu/device/moe.py:experts_kernel": "blocks, groups, planes",
}
"""`file:function` → why it is nested deeper than others."""

TOPICS = {
    "tests/stoker_runtime/engine/test_parity.py": "the whole model against transformers",
    "tests/stoker_gateway/test_fuzz_http.py": "hostile clients and pods of a whole gateway",
    "tests/stoker_runtime/test_fuzz_http.py": "hostile clients of the whole runtime",
    "tests/stoker_runtime/engine/test_load.py": "many requests at once",
    "tests/stoker_runtime/engine/test_tripwire.py": "what models launch on GPUs",
    "tests/stoker_runtime/kernels/gpu/test_bench.py": "the bench that waits for a GPU",
    "tests/stoker_operator/decide/test_autoscaler_stories.py": "the autoscaler over simulated time",
    "tests/stoker_operator/handlers/test_pool_chaos.py": "pools under everything at once",
}
"""Tests of a room rather than of one module → what they are about."""

MIRRORED = {"test_main.py": "__main__.py"}

IMPORTS_ALLOWED = {
    "triton": ("runtime/stoker_runtime/kernels/gpu/", "bench/gpu/"),
    "kopf": ("operator/stoker_operator/handlers/", "operator/stoker_operator/process.py"),
    "kubernetes": (
        "operator/stoker_operator/cluster/",
        "operator/stoker_gateway/watch.py",
        "operator/stoker_cli/",
    ),
    "fastapi": ("operator/stoker_gateway/app.py", "runtime/stoker_runtime/server/"),
    "transformers": ("tests/", "models/", "bench/gpu/"),
    "httpx": (),
    "torch": (
        "runtime/stoker_runtime/engine/",
        "runtime/stoker_runtime/model/",
        "runtime/stoker_runtime/quant/",
        "runtime/stoker_runtime/kernels/",
        "runtime/stoker_runtime/parallel/",
        "models/",
        "bench/",
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


def limit(module: Module) -> int:
    kind = "test" if module.is_test else "kernel" if "/kernels/" in module.path else "product"
    return MAX_FUNCTION_LINES[kind]


def offenders(measure: Callable[[FunctionNode], int], most: int) -> dict[str, int]:
    """`file:function` → measure of every function that exceeds it."""
    return {
        f"{module.path}:{name}": measure(function)
        for module in modules()
        for name, function in functions(module.tree)
        if measure(function) > most
    }


SAMPLE = """
class Kettle:
    def boil(self, a, b, /, c, *, d, e, f):
        \'\'\'Heat
        water.\'\'\'
        for cup in a:
            if cup:
                with b:
                    while c:
                        try:
                            d()
                        except e:
                            f()
            elif c:
                def inner():
                    if a:
                        return 1
    def _cool(self):
        return 2
"""


def test_the_measures_measure() -> None:
    found = dict(functions(ast.parse(SAMPLE)))
    assert list(found) == ["Kettle.boil", "Kettle.boil.inner", "Kettle._cool"]
    assert [length(function) for function in found.values()] == [13, 3, 2]
    assert [parameters(function) for function in found.values()] == [6, 0, 0]
    assert [depth(function) for function in found.values()] == [4, 1, 0]
    assert list(undocumented(ast.parse(SAMPLE))) == ["Kettle"]
    assert imported(ast.parse("import a.b\nfrom c.d import e\nfrom . import f")) == {"a", "c"}


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
    assert_only({name: n for name, n in many.items() if DEVICE not in name}, MANY_PARAMETERS)


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


def test_everything_public_is_explained() -> None:
    silent = [f"{m.path}:{name}" for m in product() for name in undocumented(m.tree)]
    assert_none(silent)


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


def test_fast_tests_hardly_sleep() -> None:
    sleepers = [
        f"{module.path}:{node.lineno}: {ast.unparse(node)}"
        for module in modules()
        if module.path.startswith("tests/stoker_") and "sleep(" in module.text
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep")
        if isinstance(node.args[0], ast.Constant) and node.args[0].value > MAX_SLEEP_S
    ]
    assert_none(sleepers)


def test_tests_mirror_the_modules() -> None:
    known = {module.path.partition("/")[2] for module in product()}
    lost = []
    for module in modules():
        folder, _, file = module.path.removeprefix("tests/").rpartition("/")
        if folder.startswith("stoker_") and file.startswith("test_"):
            mirrored = f"{folder}/{MIRRORED.get(file, file.removeprefix('test_'))}"
            if mirrored not in known and module.path not in TOPICS:
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
