"""Objects that nobody may apply, each with the field and the words that its refusal must have.

One table for two judges: the API server (CEL and schema, `tests/e2e/api`) and pydantic
(`tests/stoker_api`). A spec here is otherwise correct, so the named field alone is to blame.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One wrong object, described by how it differs from a right one."""

    id: str
    path: str
    """Where the wrong value goes, and what the refusal must name."""
    value: Any
    words: str
    """What the API server's refusal must say beside the path; usually the value itself."""
    named: str = ""
    """The path that the refusal names, when it is not the one that was changed."""
    kind: str = "LLMDeployment"
    beside: Object = field(default_factory=dict)
    """Other fields to set, by path."""

    @property
    def manifest(self) -> Object:
        """The whole wrong object."""
        wrong = make_object(self.kind)
        for path, value in {**self.beside, self.path: self.value}.items():
            _put(wrong, path, value)
        return wrong


def make_object(kind: str, **spec: Any) -> Object:
    """A correct object of one kind, with further fields of its spec."""
    base = {"model": {"source": "pvc://models/tiny-chat"}} if kind == "LLMDeployment" else {}
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "chat"},
        "spec": {**base, **deepcopy(spec)},
    }


def _put(target: Object, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        target = target.setdefault(parent, {})
    if value is ABSENT:
        target.pop(last)
    else:
        target[last] = value


ABSENT = object()
"""Leaves the field out."""

SOURCE_FORMS = "must be hf://org/name[@revision], s3://bucket/path"
SOURCE = "spec.model.source"

REFUSALS = [
    Refusal("name too long", "metadata.name", "x" * 53, "at most 52 characters, was 53"),
    Refusal("name starting with a digit", "metadata.name", "7b-chat", "was 7b-chat"),
    Refusal("name with dots", "metadata.name", "llama.3", "was llama.3"),
    Refusal("no model", "spec.model", ABSENT, "Required value"),
    Refusal("no source", SOURCE, ABSENT, "Required value"),
    Refusal("empty source", SOURCE, "", SOURCE_FORMS),
    Refusal("source without scheme", SOURCE, "meta/llama", f"{SOURCE_FORMS}"),
    Refusal("unknown scheme", SOURCE, "gs://bucket/llama", "was gs://bucket/llama"),
    Refusal("plain http", SOURCE, "http://host/llama", "was http://host/llama"),
    Refusal("hub source without organisation", SOURCE, "hf://llama", "was hf://llama"),
    Refusal("empty revision", SOURCE, "hf://meta/llama@", "was hf://meta/llama@"),
    Refusal("claim path upwards", SOURCE, "pvc://models/../etc", "was pvc://models/../etc"),
    Refusal("claim in capitals", SOURCE, "pvc://Models/llama", "was pvc://Models/llama"),
    Refusal("bucket alone", SOURCE, "s3://bucket", "was s3://bucket"),
    Refusal("source with a space", SOURCE, "hf://meta/my llama", "was hf://meta/my llama"),
    Refusal("source as a list", SOURCE, ["hf://meta/llama"], "must be of type string"),
    Refusal("source too long", SOURCE, "hf://meta/" + "l" * 600, "may not be more than 512"),
    Refusal("served name with a space", "spec.model.servedName", "my chat", "was my chat"),
    Refusal("unknown quantization", "spec.model.quantization", "int4", '"int4"'),
    Refusal("secret in capitals", "spec.model.secretRef.name", "HubToken", "was HubToken"),
    Refusal("length of nothing", "spec.engine.maxModelLen", 0, "greater than or equal to 16"),
    Refusal("length as text", "spec.engine.maxModelLen", "8k", "must be of type integer"),
    Refusal("no sequences", "spec.engine.maxNumSeqs", 0, "greater than or equal to 1"),
    Refusal("unknown cache dtype", "spec.engine.kvCacheDtype", "FP4", '"FP4"'),
    Refusal("a word that is no flag", "spec.engine.extraArgs", ["seed=7"], "was seed=7"),
    Refusal("a flag of ours", "spec.engine.extraArgs", ["--port=1"], "was --port=1"),
    Refusal("image with a space", "spec.engine.image", "stoker runtime", "was stoker runtime"),
    Refusal("negative GPUs", "spec.resources.gpus", -1, "greater than or equal to 0"),
    Refusal("half a GPU", "spec.resources.gpus", 0.5, "must be of type integer"),
    Refusal("memory in GB", "spec.resources.memory", "16GB", "was 16GB"),
    Refusal("memory with a sign", "spec.resources.memory", "-1Gi", "was -1Gi"),
    Refusal("cpu in words", "spec.resources.cpu", "two", "was two"),
    Refusal("negative replicas", "spec.replicas", -1, "greater than or equal to 0"),
    Refusal("replicas and scaling", "spec.replicas", 2, "was 2", beside={"spec.scaling": {}}),
    Refusal(
        "min above max",
        "spec.scaling.minReplicas",
        5,
        "must be ≤ maxReplicas, was 5 > 2",
        beside={"spec.scaling.maxReplicas": 2},
    ),
    Refusal("min above the default max", "spec.scaling.minReplicas", 11, "was 11 > 10"),
    Refusal("max of nothing", "spec.scaling.maxReplicas", 0, "greater than or equal to 1"),
    Refusal("queue of nothing", "spec.scaling.targetQueueDepth", 0, "greater than or equal to 1"),
    Refusal("timeout as a number", "spec.scaling.idleTimeout", 300, "must be of type string"),
    Refusal("timeout without unit", "spec.scaling.idleTimeout", "300", "was 300"),
    Refusal("timeout in days", "spec.scaling.idleTimeout", "2d", "was 2d"),
    Refusal("timeout of nothing", "spec.scaling.idleTimeout", "0s", "between 1s and 168h, was 0s"),
    Refusal("hold too long", "spec.scaling.coldStartTimeout", "2h", "between 1s and 1h, was 2h"),
    Refusal("pool in capitals", "spec.scaling.warmPool.name", "Shared", "was Shared"),
    Refusal("pool without name", "spec.scaling.warmPool", {}, "Required", ".warmPool.name"),
    Refusal(
        "parallel over missing GPUs",
        "spec.engine.tensorParallel",
        4,
        "was 4 with 2 GPUs",
        beside={"spec.resources.gpus": 2},
    ),
    Refusal(
        "parallel on the CPU",
        "spec.engine.tensorParallel",
        2,
        "was 2 with 0 GPUs",
        beside={"spec.resources.gpus": 0},
    ),
    Refusal("a label of ours", "spec.pod.labels", {"stoker.dev/x": "1"}, "was stoker.dev/x"),
    Refusal("a selector's label", "spec.pod.labels", {"app.kubernetes.io/name": "x"}, "name"),
    Refusal("an annotation of ours", "spec.pod.annotations", {"stoker.dev/x": "1"}, "stoker.dev/x"),
    Refusal("a malformed label", "spec.pod.labels", {"my label": "1"}, "was my label"),
    Refusal("a label's value", "spec.pod.labels", {"team": "a b"}, "was a b"),
    Refusal("a selector's value", "spec.pod.nodeSelector", {"gpu": "h 100"}, "was h 100"),
    Refusal("toleration operator", "spec.pod.tolerations", [{"operator": "In"}], '"In"'),
    Refusal("priority class", "spec.pod.priorityClassName", "Very High", "was Very High"),
    Refusal("pool min above max", "spec.size", {"min": 3, "max": 2}, "3 > 2", kind="WarmPool"),
    Refusal("pool of minus one", "spec.size.min", -1, "greater than", kind="WarmPool"),
    Refusal("preload", "spec.preload", ["llama"], "was llama", "spec.preload[0]", kind="WarmPool"),
    Refusal("preload twice", "spec.preload", ["hf://a/b"] * 2, "hf://a/b", kind="WarmPool"),
    Refusal("pool's memory", "spec.hostMemory", "64GB", "was 64GB", kind="WarmPool"),
    Refusal("pool's name", "metadata.name", "Shared", "was Shared", kind="WarmPool"),
]
