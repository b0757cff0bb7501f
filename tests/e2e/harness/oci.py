"""A folder of container images in the OCI layout: add one without tools, write one as archive.

An archive may leave out blobs that the receiver has, so that after a change of code only the last
layer travels. It does not build images from Containerfiles; `images.py` does, and exports them
into this folder.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_MARKER = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Scratch:
    """An image that holds nothing but one static program."""

    program: Path
    path: str
    user: str = "65532:65532"
    ports: tuple[int, ...] = field(default=())


class Layout:
    """The image folder; images are found by their full name."""

    def __init__(self, folder: Path) -> None:
        """Prepare the folder when it is new."""
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not (folder / "oci-layout").exists():
            (folder / "oci-layout").write_bytes(_MARKER)

    def has(self, name: str) -> bool:
        """True when an image of that name is in the folder."""
        return any(entry["annotations"].get(_NAME) == name for entry in self._entries())

    def add_scratch(self, name: str, image: Scratch) -> None:
        """Add an image made of one program."""
        layer = self._put(scratch_layer(image))
        config = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "User": image.user,
                "Entrypoint": [image.path],
                "ExposedPorts": {f"{port}/tcp": {} for port in image.ports},
            },
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        self._add(name, self._put(json.dumps(config).encode()), [layer])

    def add_docker_archive(self, name: str, stream: IO[bytes]) -> None:
        """Add the image that `docker save` or `buildah push docker-archive:` writes.

        Layers come as files named by their hash, so those that are here already are skipped.
        """
        manifest: dict[str, Any] = {}
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                if member.name == "manifest.json":
                    manifest = json.load(content)[0]
                elif "/" not in member.name and member.name != "repositories":
                    self._store(f"sha256:{member.name.split('.')[0]}", content)
        config, *layers = (
            self._descriptor(f"sha256:{file.split('.')[0]}")
            for file in [manifest["Config"], *manifest["Layers"]]
        )
        self._add(name, config, layers)

    def _add(self, name: str, config: dict[str, Any], layers: list[dict[str, Any]]) -> None:
        """Name an image whose blobs are stored."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {**config, "mediaType": _CONFIG_TYPE},
            "layers": [{**layer, "mediaType": _LAYER_TYPE} for layer in layers],
        }
        descriptor = self._put(json.dumps(manifest).encode())
        entry = {**descriptor, "mediaType": _MANIFEST_TYPE, "annotations": {_NAME: name}}
        others = [one for one in self._entries() if one["annotations"].get(_NAME) != name]
        self._write_index([*others, entry])

    def write_archive(self, name: str, out: IO[bytes], known: Collection[str] = ()) -> int:
        """Write the image as a tar stream without `known` digests; returns the bytes of blobs."""
        entry = next(e for e in self._entries() if e["annotations"].get(_NAME) == name)
        annotations = {_NAME: name.rsplit(":", 1)[1], _CONTAINERD_NAME: name}
        index = {
            "schemaVersion": 2,
            "mediaType": _INDEX_TYPE,
            "manifests": [{**entry, "annotations": annotations}],
        }
        total = 0
        with tarfile.open(fileobj=out, mode="w|") as archive:
            _add(archive, "oci-layout", _MARKER)
            _add(archive, "index.json", json.dumps(index).encode())
            for digest in dict.fromkeys(self._digests(entry)):
                if digest not in known:
                    blob = self._blob(digest)
                    archive.add(blob, f"blobs/sha256/{blob.name}")
                    total += blob.stat().st_size
        return total

    def keep_newest(self, repository: str, count: int) -> None:
        """Forget older images of one name, and the blobs that no image needs any more."""
        entries = self._entries()
        same = [one for one in entries if one["annotations"][_NAME].startswith(f"{repository}:")]
        kept = [one for one in entries if one not in same[: max(0, len(same) - count)]]
        self._write_index(kept)
        needed = {digest for entry in kept for digest in self._digests(entry)}
        for blob in (self.folder / "blobs" / "sha256").iterdir():
            if f"sha256:{blob.name}" not in needed:
                blob.unlink()

    def _digests(self, entry: dict[str, Any]) -> list[str]:
        """All blobs of an image: its manifest, its configuration, its layers."""
        manifest = json.loads(self._blob(entry["digest"]).read_bytes())
        layers = [layer["digest"] for layer in manifest["layers"]]
        return [entry["digest"], manifest["config"]["digest"], *layers]

    def _entries(self) -> list[dict[str, Any]]:
        index = self.folder / "index.json"
        found = json.loads(index.read_text())["manifests"] if index.exists() else []
        return [{**entry, "annotations": entry.get("annotations", {})} for entry in found]

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries}
        partial = self.folder / "index.json.partial"
        partial.write_text(json.dumps(index))
        os.replace(partial, self.folder / "index.json")

    def _blob(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _put(self, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._store(digest, io.BytesIO(content))
        return self._descriptor(digest)

    def _store(self, digest: str, content: IO[bytes]) -> None:
        """Keep a blob; a half-written one never gets its name."""
        blob = self._blob(digest)
        if not blob.exists():
            partial = blob.with_suffix(".partial")
            with partial.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            os.replace(partial, blob)

    def _descriptor(self, digest: str) -> dict[str, Any]:
        return {"digest": digest, "size": self._blob(digest).stat().st_size}


def scratch_layer(image: Scratch) -> bytes:
    """The layer of a scratch image; the same program always gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        _add(layer, image.path.lstrip("/"), image.program.read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))
