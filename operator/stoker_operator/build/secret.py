"""The Secret that hands the pods of a deployment or a pool their token.

Knows its manifest; does not know how the token is derived nor who checks it.
"""

from __future__ import annotations

import base64

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.build.metadata import Manifest, build_metadata, pick_guard_name

TYPE = f"{names.GROUP}/runtime-token"
"""A type of its own, which cannot be changed: a user's Secret of that name is never overwritten."""


def build_token_secret(owner: LLMDeployment | WarmPool, token: str) -> Manifest:
    """The gateway presents a deployment's token to its pods, and they to the gateway; a pool's is
    presented by the operator alone, to the admin ports."""
    data = base64.b64encode(token.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": TYPE,
        "metadata": build_metadata(owner, pick_guard_name(owner)),
        "data": {names.TOKEN_SECRET_KEY: data},
    }
