"""The Services of a deployment against expected manifests."""

from __future__ import annotations

from stoker_operator.build.service import build_client_service, build_headless_service
from support.builders import make_llm
from support.golden import check_golden


def test_golden_services() -> None:
    llm = make_llm()
    gateway = "stoker-gateway.stoker.svc.cluster.local"
    check_golden("services", [build_headless_service(llm), build_client_service(llm, gateway)])
