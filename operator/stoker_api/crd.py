"""The CustomResourceDefinitions: `python -m stoker_api.crd` writes them into the current checkout.

Knows what surrounds a schema: names, columns, subresources, rules on the object's name. The schema
itself comes from the models in `v1alpha1.py`. A test compares the files with what this makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from stoker_api import names
from stoker_api.rules import literal, rule, rules
from stoker_api.schema import structural_schema, with_spoken_defaults, without_defaults
from stoker_api.v1alpha1 import MAX_NAME, NAME, LLMDeployment, WarmPool

FOLDERS = ("crds", "charts/stoker/files/crds")
HEADER = "# Made by `make crds` from operator/stoker_api/v1alpha1.py; edit that.\n"

Manifest = dict[str, Any]


def main() -> None:
    """Write every CRD into every folder that has a copy."""
    for folder in FOLDERS:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in render_all().items():
            Path(folder, name).write_text(text)


def render_all() -> dict[str, str]:
    """File name → YAML of each CRD."""
    return {f"{crd['metadata']['name']}.yaml": _render(crd) for crd in build_crds()}


def build_crds() -> list[Manifest]:
    """Both CRDs as manifests."""
    deployment = _build_crd(LLMDeployment, "llmdeployment", "llm", _DEPLOYMENT_COLUMNS)
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    deployment["spec"]["versions"][0]["subresources"]["scale"] = scale
    return [deployment, _build_crd(WarmPool, "warmpool", "wp", _POOL_COLUMNS)]


def _build_crd(
    model: type[BaseModel], singular: str, short: str, columns: list[dict[str, Any]]
) -> Manifest:
    plural = f"{singular}s"
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": _object_schema(model)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}", "annotations": _KEPT},
        "spec": {
            "group": names.GROUP,
            "names": {
                "kind": model.__name__,
                "listKind": f"{model.__name__}List",
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
                "categories": ["all", "stoker"],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _object_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The whole object: spec and status from the model, metadata left to Kubernetes."""
    schema = structural_schema(model)
    properties = schema["properties"]
    properties["apiVersion"] = _text("Version of this representation: `stoker.dev/v1alpha1`.")
    properties["kind"] = _text(f"`{model.__name__}`.")
    properties["metadata"] = {"type": "object"}
    properties["spec"] = with_spoken_defaults(properties["spec"])
    properties["status"] = without_defaults(properties["status"])
    required = [] if properties["spec"].get("default") == {} else ["spec"]
    return {
        "type": "object",
        "description": schema["description"],
        "properties": properties,
        **({"required": required} if required else {}),
        **_name_rules(),
    }


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


def _name_rules() -> dict[str, Any]:
    """Services and pods are named after the object: short, starting with a letter."""
    name = "self.metadata.name"
    return rules(
        rule(
            f"{name}.matches({literal(NAME)})",
            "metadata.name must be lower case letters, digits and inner '-', was %s",
            name,
        ),
        rule(
            f"{name}.size() <= {MAX_NAME}",
            f"metadata.name must have at most {MAX_NAME} characters, was %s in %s",
            f"{name}.size(), {name}",
        ),
    )


def _render(crd: Manifest) -> str:
    body: str = yaml.dump(
        crd,
        Dumper=_Dumper,
        sort_keys=False,
        width=100,
        allow_unicode=True,
        default_flow_style=False,
    )
    return HEADER + body


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors would puzzle readers and some tools."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _column(name: str, path: str, kind: str, description: str, wide: bool = False) -> Manifest:
    priority = {"priority": 1} if wide else {}
    return {"name": name, "type": kind, "jsonPath": path, "description": description, **priority}


_KEPT = {"helm.sh/resource-policy": "keep"}
"""Helm leaves CRDs, and with them every deployment, where they are when the chart goes."""

_READY = '.status.conditions[?(@.type=="Ready")]'
_SUMMARY = [
    _column("Ready", f"{_READY}.status", "string", "Whether a request would be answered or held."),
    _column("Reason", f"{_READY}.reason", "string", "Why, in one word."),
]
_AGE = _column("Age", ".metadata.creationTimestamp", "date", "Since it was made.")
_DEPLOYMENT_COLUMNS = [
    *_SUMMARY,
    _column("Replicas", ".status.replicas", "integer", "Pods that exist."),
    _column("Model", ".spec.model.source", "string", "Where the checkpoint comes from."),
    _column("URL", ".status.url", "string", "Base URL for OpenAI clients."),
    _AGE,
    _column("Available", ".status.readyReplicas", "integer", "Pods that answer.", wide=True),
    _column("Desired", ".status.scaling.desired", "integer", "Replicas wanted.", wide=True),
    _column("Cold Start", ".status.lastColdStart.total", "number", "Last wake, in s.", wide=True),
    _column("Why", ".status.scaling.message", "string", "The autoscaler's last word.", wide=True),
]
_POOL_COLUMNS = [
    *_SUMMARY,
    _column("Standby", ".status.standby", "integer", "Pods that wait to be adopted."),
    _column("Adopted", ".status.adopted", "integer", "Pods that now serve a deployment."),
    _AGE,
    _column("Min", ".spec.size.min", "integer", "Standby pods that always wait.", wide=True),
    _column("Max", ".spec.size.max", "integer", "Standby pods at most.", wide=True),
    _column("Why", ".status.sizing.message", "string", "What decided the size.", wide=True),
]


if __name__ == "__main__":
    main()
