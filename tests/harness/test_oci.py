"""The harness' `oci.py`, without a cluster."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from e2e.harness.oci import Layout, Scratch

NAME = "docker.io/library/one:tag"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    return Scratch(program, "/program", ports=(8000,))


def _read(archive: io.BytesIO) -> dict[str, bytes]:
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in files.items() if file}


def test_a_scratch_image_holds_its_program_and_how_to_start_it(
    layout: Layout, scratch: Scratch
) -> None:
    layout.add_scratch(NAME, scratch)
    out = io.BytesIO()
    size = layout.write_archive(NAME, out)
    files = _read(out)
    [entry] = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == NAME
    blobs = {name.rsplit("/", 1)[1]: data for name, data in files.items() if "blobs" in name}
    assert size == sum(map(len, blobs.values()))
    assert all(hashlib.sha256(data).hexdigest() == digest for digest, data in blobs.items())
    manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["config"]["Entrypoint"] == ["/program"]
    assert config["config"]["User"] == "65532:65532"
    layer = blobs[manifest["layers"][0]["digest"].removeprefix("sha256:")]
    assert _read(io.BytesIO(layer)) == {"program": b"\x7fELF"}


def test_known_blobs_do_not_travel(layout: Layout, scratch: Scratch) -> None:
    layout.add_scratch(NAME, scratch)
    out = io.BytesIO()
    layout.write_archive(NAME, out)
    blobs = [name for name in _read(out) if name.startswith("blobs/")]
    known = {f"sha256:{blobs[-1].rsplit('/', 1)[1]}"}
    less = io.BytesIO()
    layout.write_archive(NAME, less, known)
    assert set(_read(out)) - set(_read(less)) == {blobs[-1]}


def test_naming_an_image_again_replaces_it_and_leaves_the_others(
    layout: Layout, scratch: Scratch
) -> None:
    layout.add_scratch("docker.io/library/two:tag", scratch)
    layout.add_scratch(NAME, scratch)
    scratch.program.write_bytes(b"newer")
    layout.add_scratch(NAME, scratch)
    entries = json.loads((layout.folder / "index.json").read_text())["manifests"]
    assert len(entries) == 2
    assert layout.has(NAME)
    assert layout.has("docker.io/library/two:tag")
    assert not layout.has("docker.io/library/three:tag")


def test_only_the_newest_images_of_a_name_are_kept(layout: Layout, scratch: Scratch) -> None:
    for tag in ("a", "b", "c"):
        scratch.program.write_text(tag)
        layout.add_scratch(f"docker.io/library/one:{tag}", scratch)
    layout.add_scratch("docker.io/library/one-more:c", scratch)
    layout.keep_newest("docker.io/library/one", 1)
    assert not layout.has("docker.io/library/one:a")
    assert not layout.has("docker.io/library/one:b")
    for name in ("docker.io/library/one:c", "docker.io/library/one-more:c"):
        assert layout.write_archive(name, io.BytesIO()) > 0
    # One manifest, one configuration, one layer: the two kept images are the same but for the name.
    assert len(list((layout.folder / "blobs" / "sha256").iterdir())) == 3


def test_takes_what_docker_save_writes(layout: Layout) -> None:
    layer, config = b"a layer", b'{"os": "linux"}'
    files = {f"{hashlib.sha256(layer).hexdigest()}.tar": layer}
    files |= {f"{hashlib.sha256(config).hexdigest()}.json": config}
    names = list(files)
    listed = [{"Config": names[1], "RepoTags": [NAME], "Layers": [names[0]]}]
    files |= {"0123/VERSION": b"1.0", "repositories": b"{}"}
    files["manifest.json"] = json.dumps(listed).encode()
    layout.add_docker_archive(NAME, _tar(files))
    out = io.BytesIO()
    assert layout.write_archive(NAME, out) > len(layer) + len(config)
    digests = {name.rsplit("/", 1)[-1] for name in _read(out)}
    assert {name.split(".")[0] for name in names} <= digests


def test_a_broken_export_leaves_no_image(layout: Layout) -> None:
    whole = _tar({"f" * 64 + ".tar": b"x" * 5000, "manifest.json": b"[]"}).getvalue()
    with pytest.raises((tarfile.TarError, EOFError, KeyError)):
        layout.add_docker_archive(NAME, io.BytesIO(whole[:2000]))
    assert not layout.has(NAME)


def _tar(files: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer
