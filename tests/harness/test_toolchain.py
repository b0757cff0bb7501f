"""The harness' `toolchain.py`, without a cluster."""

from pathlib import Path

import pytest

from e2e.harness.toolchain import TOOLS, Tool, go_version, module_key


@pytest.mark.parametrize(
    ("package", "output"),
    [
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("go.etcd.io/etcd/server/v3", "server"),
        (".", "coredns"),
    ],
)
def test_knows_how_go_names_a_program(package: str, output: str) -> None:
    assert Tool(Path("go/coredns"), package).output == output


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("go version go1.9 linux/amd64", (1, 9)),
        ("something else", (0, 0)),
    ],
)
def test_reads_the_go_version(text: str, version: tuple[int, int]) -> None:
    assert go_version(text) == version


def test_programs_are_built_again_when_a_lock_a_source_or_a_flag_changes(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x")
    (tmp_path / "go.sum").write_text("a")
    (tmp_path / "main.go").write_text("package main")
    keys = [module_key(tmp_path, "-s")]
    (tmp_path / "README").write_text("not an input")
    assert module_key(tmp_path, "-s") == keys[0]
    keys.append(module_key(tmp_path, "-w"))
    for name in ("go.mod", "go.sum", "main.go"):
        (tmp_path / name).write_text("changed")
        keys.append(module_key(tmp_path, "-s"))
    assert len(set(keys)) == len(keys)


def test_every_program_has_a_pinned_module() -> None:
    for tool in TOOLS.values():
        assert (tool.folder / "go.mod").is_file()
        own = tool.package == "." and tool.folder.name != "coredns"
        assert own or (tool.folder / "go.sum").is_file()
