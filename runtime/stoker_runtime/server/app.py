"""The routes of both ports, who may use them, and what is refused before a body is read.

Knows paths, methods, keys and media types; does not know how answers are made. Called by the
connections. Deny by default: a path that is not listed as open needs the key.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec

from stoker_runtime.server import refusal
from stoker_runtime.server.admin import Admin
from stoker_runtime.server.exchange import Exchange, Request
from stoker_runtime.server.metrics import CONTENT_TYPE
from stoker_runtime.server.openai import read_chat, read_completion
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.server.service import Service
from stoker_runtime.server.tokens import answer_detokenize, answer_tokenize

log = logging.getLogger(__name__)

_json = msgspec.json.Encoder().encode
_MODELS = "/v1/models"
Handler = Callable[[Service, Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path."""

    method: str
    handler: Handler
    open: bool = False
    """Needs no key."""
    generates: bool = False
    """Needs a ready model and a free place."""


class App:
    """The routes of one port."""

    def __init__(
        self, service: Service, routes: dict[str, Route], *, key: str | None = None
    ) -> None:
        """Serve `routes` of `service`; without a `key` of its own, for those who have the model's.

        A standby that takes in a model takes its key too; the admin port keeps the standby's.
        """
        self._service = service
        self._routes = routes
        self._own_key = key

    def screen(self, request: Request) -> Refusal | None:
        """Judge the head alone: key, path, method, media type, room."""
        why = self._judge(request)
        if why:
            self._service.metrics.count_refusal(why.code or "")
        return why

    async def handle(self, exchange: Exchange) -> None:
        """Answer a request that was screened."""
        route = self._find(exchange.request.path)
        assert route, "screened requests have a route"
        try:
            await route.handler(self._service, exchange)
        except Refusal as why:
            self._service.metrics.count_refusal(why.code or "")
            raise

    def _find(self, path: str) -> Route | None:
        if path.startswith(f"{_MODELS}/"):
            path = f"{_MODELS}/"
        return self._routes.get(path)

    def _knows_key(self, request: Request) -> bool:
        config = self._service.config
        wanted = config.token or config.api_key if self._own_key is None else self._own_key
        given = request.headers.get("authorization", "").encode("latin-1")
        scheme, _, key = given.partition(b" ")
        return not wanted or (
            scheme.lower() == b"bearer" and hmac.compare_digest(key, wanted.encode())
        )

    def _judge(self, request: Request) -> Refusal | None:
        route = self._find(request.path)
        is_open = route is not None and route.open
        if not is_open and not self._knows_key(request):
            return refusal.unauthorized("authorization" in request.headers)
        if route is None:
            meant = f"/v1{request.path}" if f"/v1{request.path}" in self._routes else ""
            return refusal.unknown_route(request.method, request.path[:200], meant)
        allowed = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        if request.method not in allowed:
            return refusal.method_not_allowed(request.method, request.path[:200], allowed)
        media = request.headers.get("content-type", "application/json")
        if route.method == "POST" and "json" not in media.partition(";")[0].lower():
            return refusal.wrong_media_type(media[:100])
        if route.generates:
            return self._service.lifecycle.refuse_work() or self._service.check_room(1)
        return None


def public_routes() -> dict[str, Route]:
    """What clients and the gateway ask."""
    return {
        "/v1/chat/completions": Route("POST", _chat, generates=True),
        "/v1/completions": Route("POST", _completion, generates=True),
        _MODELS: Route("GET", _models),
        f"{_MODELS}/": Route("GET", _model),
        "/tokenize": Route("POST", answer_tokenize),
        "/detokenize": Route("POST", answer_detokenize),
        "/version": Route("GET", _version),
        **_probe_routes(),
    }


def admin_routes(admin: Admin) -> dict[str, Route]:
    """What only the operator asks."""
    return {
        "/load": Route("POST", admin.load),
        "/unload": Route("POST", admin.unload),
        "/sleep": Route("POST", admin.sleep),
        "/wake_up": Route("POST", admin.wake_up),
        "/is_sleeping": Route("GET", admin.is_sleeping),
        "/drain": Route("POST", admin.drain),
        "/state": Route("GET", admin.state),
        **_probe_routes(),
    }


def _probe_routes() -> dict[str, Route]:
    return {
        "/health": Route("GET", _health, open=True),
        "/ready": Route("GET", _ready, open=True),
        "/metrics": Route("GET", _metrics, open=True),
    }


async def _chat(service: Service, exchange: Exchange) -> None:
    await service.answer(exchange, read_chat(exchange.request.body, service.defaults))


async def _completion(service: Service, exchange: Exchange) -> None:
    await service.answer(exchange, read_completion(exchange.request.body, service.defaults))


async def _models(service: Service, exchange: Exchange) -> None:
    models = [] if service.config.is_standby else [_describe_model(service)]
    exchange.send(200, _json({"object": "list", "data": models}))


async def _model(service: Service, exchange: Exchange) -> None:
    name = unquote(exchange.request.path.removeprefix(f"{_MODELS}/"), errors="replace")
    if service.config.is_standby or name != service.config.model_name:
        raise refusal.model_not_found(name[:200])
    exchange.send(200, _json(_describe_model(service)))


def _describe_model(service: Service) -> dict[str, object]:
    described: dict[str, object] = {
        "id": service.config.model_name,
        "object": "model",
        "created": service.created,
        "owned_by": "stoker",
    }
    if service.lifecycle.loaded:
        described["max_model_len"] = service.lifecycle.loaded.max_model_len
    return described


async def _health(service: Service, exchange: Exchange) -> None:
    state = service.lifecycle
    trouble = state.trouble
    body = {
        "status": "unhealthy" if trouble else "ok",
        "phase": state.phase,
        "engine_heartbeat_age_s": round(state.heartbeat_age_s, 3),
    }
    if trouble:
        body["trouble"] = trouble
        log.error("unhealthy: %s", trouble)
    exchange.send(503 if trouble else 200, _json(body))


async def _ready(service: Service, exchange: Exchange) -> None:
    state = service.lifecycle
    if state.phase == "Ready" and state.healthy:
        exchange.send(200, _json({"slots": state.slots}))
        return
    body = {"phase": state.phase, "reason": state.reason, "message": state.message}
    exchange.send(503, _json(body))


async def _metrics(service: Service, exchange: Exchange) -> None:
    state = service.lifecycle
    own = {
        "ready": float(state.phase == "Ready"),
        "slots": float(state.slots),
        "sequences_active": float(service.engine.num_active),
        "engine_heartbeat_age_seconds": state.heartbeat_age_s,
        "process_start_time_seconds": state.started_at,
        "resident_bytes": float(sum(one.num_bytes for one in state.residents.values())),
        "gpu_planned_bytes": float(service.metrics.stats.gpu_planned_bytes),
        "gpu_peak_bytes": float(service.metrics.stats.gpu_peak_bytes),
    }
    path = state.loaded.path if state.loaded else "fresh"
    exchange.send(200, service.metrics.render(own, state.phase_seconds, path), CONTENT_TYPE)


async def _version(service: Service, exchange: Exchange) -> None:
    from importlib.metadata import version  # not worth its import at every start

    exchange.send(200, _json({"version": version("stoker")}))
