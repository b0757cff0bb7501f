"""`/healthz`, `/readyz`, `/metrics` and `/arrivals/namespace/name` of the operator.

Knows HTTP; asks functions whether all is well. Alive means that the event loop answers and that the
lease loop comes round; ready means that the cluster has been listed once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stoker_operator.cluster.arrivals import COLUMNS

Check = Callable[[], bool]
Arrivals = Callable[[str], list[tuple[int, ...]]]
"""The last day of a deployment, by minutes."""


async def serve_health(port: int, alive: Check, ready: Check) -> web.AppRunner:
    """Serve the probes; the runner is to be cleaned up at the end."""
    application = web.Application()
    application.router.add_get("/healthz", _answer(alive))
    application.router.add_get("/readyz", _answer(ready))
    return await _serve(application, port)


async def serve_metrics(port: int, arrivals: Arrivals) -> web.AppRunner:
    """Serve the metrics and what was asked lately; the runner is to be cleaned up at the end."""

    async def answer(request: web.Request) -> web.Response:
        key = "{namespace}/{name}".format_map(request.match_info)
        return web.json_response({"columns": COLUMNS, "minutes": arrivals(key)})

    application = web.Application()
    application.router.add_get("/metrics", _metrics)
    application.router.add_get("/arrivals/{namespace}/{name}", answer)
    return await _serve(application, port)


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        good = check()
        return web.Response(text="ok\n" if good else "not ok\n", status=200 if good else 503)

    return answer


async def _metrics(_: web.Request) -> web.Response:
    headers = {"Content-Type": CONTENT_TYPE_LATEST}
    return web.Response(body=generate_latest(), headers=headers)


async def _serve(application: web.Application, port: int) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
