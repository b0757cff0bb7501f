"""The Secret that hands a deployment's pods their token.

Knows its manifest; does not know how the token is derived nor who checks it.
"""

from __future__ import annotations

import base64

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.metadata import Manifest, build_metadata

TYPE = f"{names.GROUP}/runtime-token"
"""A type of its own, which cannot be changed: a user's Secret of that name is never overwritten."""


def build_token_secret(deployment: LLMDeployment, token: str) -> Manifest:
    """The gateway presents this token to the pods, and the pods to the gateway."""
    data = base64.b64encode(token.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": TYPE,
        "metadata": build_metadata(deployment, names.token_secret_name(deployment.metadata.name)),
        "data": {names.TOKEN_SECRET_KEY: data},
    }
