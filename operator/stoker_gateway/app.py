"""The routes: OpenAI's on the public port; demand, announcements, metrics on the internal one.

Knows paths, methods and who may use them; what happens to a model request is `proxy`'s business,
and what exists `fleet`'s. Errors are raised; the server makes OpenAI-shaped answers of them.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable

from pydantic import ValidationError

from stoker_api import names
from stoker_api.demand import Announcement
from stoker_api.tokens import bearer_matches
from stoker_gateway import errors
from stoker_gateway.admission import parse_envelope, rename_model
from stoker_gateway.backends import Backends
from stoker_gateway.demand import DemandPublisher
from stoker_gateway.fanout import FANOUT_HEADER, Fanout
from stoker_gateway.fleet import Fleet
from stoker_gateway.http.reply import JSON, Reply
from stoker_gateway.http.request import Request
from stoker_gateway.keys import InternalKey, KeyFolder
from stoker_gateway.metrics import NOBODY, Metrics
from stoker_gateway.origins import Origins
from stoker_gateway.proxy import Call, Proxy
from stoker_gateway.settings import Settings
from stoker_gateway.target import Target

access = logging.getLogger("stoker_gateway.access")

MODELS = "/v1/models"
HEALTH = "/health"
READY = "/ready"
METRICS = "/metrics"
POSTS = frozenset({
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/tokenize",
    "/detokenize",
})  # fmt: skip
GETS = "GET, HEAD"
HANGUP = 499
ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[0-9.]+):[0-9]{1,5}")


def respond_json(reply: Reply, status: int, document: object) -> None:
    """A JSON answer."""
    reply.respond(status, JSON, json.dumps(document).encode())


class PublicApp:
    """What clients see."""

    def __init__(
        self, fleet: Fleet, proxy: Proxy, metrics: Metrics, keys: KeyFolder, settings: Settings
    ) -> None:
        self._access_log = settings.access_log
        self._origins = Origins(settings.origin_list)
        self._fleet = fleet
        self._proxy = proxy
        self._metrics = metrics
        self._keys = keys
        self.is_ready: Callable[[], bool] = lambda: True

    def check(self, request: Request) -> None:
        """The key, then the route; a browser's first question has no key. Raises `ApiError`."""
        path, method = request.path, request.method
        request.answer_headers = self._origins.headers(request.headers)
        if method == "OPTIONS" and self._origins.preflight(request.headers):
            return
        if path not in (HEALTH, READY):
            if not self._keys.accept(request.headers.get(b"authorization")):
                raise errors.unauthorized()
            if method == "POST" and _takes_model(path):
                return
        _check_get(request, path, path in (HEALTH, READY, MODELS) or path.startswith(MODELS + "/"))

    async def __call__(self, request: Request, reply: Reply) -> None:
        """Answer."""
        if request.method == "POST":
            await self._serve(request, reply)
            return
        path = request.path
        if request.method == "OPTIONS":
            reply.respond(204, self._origins.preflight(request.headers) or [])
        elif path in (HEALTH, READY):
            _respond_health(reply, path == HEALTH or self.is_ready())
        elif path == MODELS:
            data = [_model(name, target) for name, target in self._fleet.directory.listed()]
            respond_json(reply, 200, {"object": "list", "data": data})
        else:
            name = path.removeprefix(MODELS + "/")
            respond_json(reply, 200, _model(name, self._fleet.directory.resolve(name)))

    async def _serve(self, request: Request, reply: Reply) -> None:
        envelope = parse_envelope(request.body)
        model = envelope.model or ""
        target = self._fleet.directory.resolve(model)
        lane = self._fleet.get(target.key)
        assert lane, f"{target.key} is in the directory but has no lane"
        request.deployment = target.key
        body = request.body
        if model != target.served_name:
            body = rename_model(body, target.served_name)
        await self._proxy.serve(Call(request, lane, body, bool(envelope.stream)), reply)

    def ended(self, request: Request, reply: Reply) -> None:
        """Count it."""
        code = HANGUP if reply.gone or not reply.status else reply.status
        self._metrics.ended(request.deployment or NOBODY, code)
        if self._access_log and request.path not in (HEALTH, READY):
            _log_access(request, reply, code)


def _log_access(request: Request, reply: Reply, code: int) -> None:
    now = time.monotonic()
    head_s = (reply.started_at or now) - request.arrived_at
    fields = {
        "request": request.id,
        "method": request.method,
        "path": request.origin_form.partition(b"?")[0].decode("ascii", "backslashreplace"),
        "deployment": request.deployment or "-",
        "status": code,
        "head_s": round(head_s, 3),
        "total_s": round(now - request.arrived_at, 3),
    }
    words = " ".join(f"{name}={value}" for name, value in fields.items())
    access.info("%s", words, extra={"fields": fields})


def _takes_model(path: str) -> bool:
    inside_models = path == MODELS or path.startswith(MODELS + "/")
    return path in POSTS or (path.startswith("/v1/") and not inside_models)


def _check_get(request: Request, path: str, known: bool) -> None:
    if known and request.method not in ("GET", "HEAD"):
        raise errors.method_not_allowed(request.method, path, GETS)
    if not known and path in POSTS:
        raise errors.method_not_allowed(request.method, path, "POST")
    if not known:
        meant = f"/v1{path}"
        is_close = meant in POSTS or meant == MODELS
        raise errors.unknown_path(request.method, path, meant if is_close else "")


def _respond_health(reply: Reply, good: bool) -> None:
    respond_json(reply, 200 if good else 503, {"status": "ok" if good else "not ready"})


def _model(name: str, target: Target) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": target.created_at,
        "owned_by": target.namespace,
    }


class InternalApp:
    """What operators, runtime pods, kubelet and Prometheus see."""

    def __init__(
        self,
        backends: Backends,
        demand: DemandPublisher,
        metrics: Metrics,
        fanout: Fanout,
        key: InternalKey,
    ) -> None:
        self._backends = backends
        self._demand = demand
        self._metrics = metrics
        self._fanout = fanout
        self._key = key
        self.is_ready: Callable[[], bool] = lambda: True

    def check(self, request: Request) -> None:
        """The route; tokens are checked where it is known whose they must be."""
        path = request.path
        if path == names.ANNOUNCE_PATH:
            if request.method != "POST":
                raise errors.method_not_allowed(request.method, path, "POST")
            return
        _check_get(request, path, path in (HEALTH, READY, METRICS, names.DEMAND_PATH))

    async def __call__(self, request: Request, reply: Reply) -> None:
        """Answer."""
        match request.path:
            case names.DEMAND_PATH:
                self._authorise(request, names.DEMAND_PURPOSE)
                await self._demand.stream(reply)
            case names.ANNOUNCE_PATH:
                self._announce(request, reply)
            case "/metrics":
                text = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
                reply.respond(200, text, self._metrics.render())
            case path:
                _respond_health(reply, path == HEALTH or self.is_ready())

    def ended(self, request: Request, reply: Reply) -> None:
        """Internal requests are not counted."""

    def _authorise(self, request: Request, purpose: str) -> None:
        presented = request.headers.get(b"authorization", b"").decode("latin-1")
        token = self._key.token(purpose)
        if token and not bearer_matches(presented, token):
            raise errors.unauthorized()

    def _announce(self, request: Request, reply: Reply) -> None:
        try:
            said = Announcement.model_validate_json(request.body)
        except ValidationError as error:
            message = f"Not an announcement: {error.errors()[0]['msg']}."
            raise errors.bad_request(message, "invalid_announcement") from error
        self._authorise(request, names.runtime_purpose(said.namespace, said.deployment))
        if not ADDRESS.fullmatch(said.address):
            message = f"`address` must be ip:port, was {said.address[:100]!r}."
            raise errors.bad_request(message, "invalid_announcement", param="address")
        self._backends.announce(said)
        if FANOUT_HEADER not in request.headers:
            self._demand.announce(said)
            self._fanout.send(request.headers.get(b"authorization", b""), request.body)
        reply.respond(204, [])
