"""The operator's own metrics, names beginning with `stoker_operator_`, and the cold start's.

Knows names and labels; does not know who counts or who scrapes. Labels are bounded: kinds, verbs,
phases and paths, never names of objects.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

WRITES = Counter(
    "stoker_operator_writes_total",
    "Writes to the API server, by kind of object and verb; renewals of the Lease are kind Lease.",
    ("kind", "verb"),
)
RECONCILES = Counter(
    "stoker_operator_reconciles_total", "Reconciliations, by how they ended.", ("result",)
)
RECONCILE_SECONDS = Histogram(
    "stoker_operator_reconcile_seconds",
    "Duration of one reconciliation, writes included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
DEMAND_TO_POD_SECONDS = Histogram(
    "stoker_operator_demand_to_pod_seconds",
    "From a gateway's line that asks for a replica to the pod in the API server.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
LEADER = Gauge("stoker_operator_leader", "1 when this process acts, 0 when it stands by.")
GATEWAY_WORKERS = Gauge(
    "stoker_operator_gateway_workers", "Gateway workers whose demand this process hears."
)
DEPLOYMENTS = Gauge("stoker_operator_deployments", "LLMDeployments that this process knows.")
COLD_START_SECONDS = Histogram(
    "stoker_cold_start_seconds",
    "Seconds of each phase of a cold start, and their total.",
    ("phase", "path"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 60, 120, 300),
)
