"""Specs that stories deploy: the demo's model, and the stub that isolates operator and gateway.

It knows the fields of an LLMDeployment; it knows no cluster.
"""

from typing import Any

CLAIM = "models"


def tiny_chat(**scaling: Any) -> dict[str, Any]:
    """The committed demo model on CPU; scaling fields override a short idle timeout."""
    return model("tiny-chat", **scaling)


def model(folder: str, **scaling: Any) -> dict[str, Any]:
    """A checkpoint folder on the stories' claim, on the CPU runtime."""
    return {
        "model": {"source": f"pvc://{CLAIM}/{folder}"},
        "resources": {"gpus": 0, "cpu": "100m", "memory": "1Gi"},
        "scaling": {"idleTimeout": "3s", "maxReplicas": 1, **scaling},
    }


def stub(image: str, *args: str, slots: int = 32, **scaling: Any) -> dict[str, Any]:
    """The stub runtime: ready at once, answers as its arguments say."""
    spec = model("tiny-chat", **scaling)
    spec["engine"] = {"image": image, "maxNumSeqs": slots, "extraArgs": list(args)}
    spec["resources"] = {"gpus": 0, "cpu": "10m", "memory": "32Mi"}
    return spec
