"""`stoker chat MODEL PROMPT`: one streamed answer, with the wake's timeline beside it.

Knows the OpenAI client and the deployment's status; does not know how a wake works.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from stoker_cli.address import complete_url
from stoker_cli.timeline import draw_timeline

if TYPE_CHECKING:
    import openai

    from stoker_cli.deployment import Deployments

_COLD_START = "x-stoker-cold-start"
"""Response header of a request that found nothing running."""
_STATUS_WAIT_S = 5.0
_POLL_S = 0.1


def chat(
    model: Annotated[str, typer.Argument(help="The model's name, as in /v1/models.")],
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    url: Annotated[
        str, typer.Option(envvar="STOKER_URL", help="The gateway's address, up to /v1.")
    ] = "http://localhost:8000/v1",
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="A key of yours.")] = "none",
    timeline: Annotated[
        str | None, typer.Option(help="LLMDeployment whose last wake is shown beside the answer.")
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
) -> None:
    """Ask one question and stream the answer; the request is held while the model wakes."""
    import openai  # longer than all else of a command line that may be about another command

    base_url = complete_url(url)
    client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=600)
    watched = _watch(namespace, timeline) if timeline else None
    try:
        _stream(Console(), client, model, prompt, watched)
    except openai.APIConnectionError as error:
        words = f"nothing answers at {base_url}: {error.__cause__ or error}"
        typer.secho(
            f"{words}; --url says where the gateway or `stoker serve` is", fg="red", err=True
        )
        raise typer.Exit(1) from error
    except openai.APIError as error:
        typer.secho(f"{type(error).__name__}: {error.message}", fg="red", err=True)
        raise typer.Exit(1) from error


def _watch(namespace: str | None, name: str) -> _Watched:
    from stoker_cli.deployment import Deployments  # only with a cluster

    return _Watched(Deployments(namespace), name)


class _Watched:
    """The cold start of one deployment that happens during this request, if one does."""

    def __init__(self, deployments: Deployments, name: str) -> None:
        self._deployments = deployments
        self._name = name
        self._before = self._cold_start()

    def _cold_start(self) -> dict[str, Any] | None:
        found = self._deployments.fetch(self._name)
        status: dict[str, Any] = found.get("status", {})
        return status.get("lastColdStart")

    def wait(self) -> dict[str, Any] | None:
        """The new cold start's figures; None when the model was awake."""
        deadline = time.monotonic() + _STATUS_WAIT_S
        while time.monotonic() < deadline:
            if (found := self._cold_start()) != self._before:
                return found
            time.sleep(_POLL_S)
        return None


def _stream(
    console: Console, client: openai.OpenAI, model: str, prompt: str, watched: _Watched | None
) -> None:
    started, answer = time.monotonic(), Text()
    console.print(Text(f"> {prompt}", style="bold"))
    with _show(console) as live:
        live.update(_Waiting(started))
        woken, pieces = _ask(client, model, prompt)
        first_token_s = 0.0
        for piece in pieces:
            first_token_s = first_token_s or time.monotonic() - started
            answer.append(piece)
            live.update(_beside(answer, first_token_s, None))
        cold = watched.wait() if watched and woken else None
        live.update(_beside(answer, first_token_s, cold))


@contextmanager
def _show(console: Console) -> Iterator[Live]:
    """A live picture; rich ends its last line only on a terminal."""
    try:
        with Live(console=console, refresh_per_second=20) as live:
            yield live
    finally:
        if not console.is_terminal:
            console.line()


def _ask(client: openai.OpenAI, model: str, prompt: str) -> tuple[bool, Iterator[str]]:
    """Whether the request woke the model, and the pieces of the answer."""
    reply = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True, temperature=0
    )
    chunks = reply.parse()
    pieces = (chunk.choices[0].delta.content for chunk in chunks if chunk.choices)
    return _COLD_START in reply.headers, (piece for piece in pieces if piece)


class _Waiting:
    """A line that counts the seconds while the request is held."""

    def __init__(self, started: float) -> None:
        self._started = started

    def __rich__(self) -> Text:
        return Text(f"held for {time.monotonic() - self._started:.1f} s", style="dim")


def _beside(answer: Text, first_token_s: float, cold: dict[str, Any] | None) -> RenderableType:
    seen = Text(f"first token here after {first_token_s:.3f} s", style="dim")
    left = Panel(answer, title="answer", title_align="left", width=48)
    if cold is None:
        return Group(left, seen)
    right = draw_timeline(cold.get("phases", {}), cold.get("path", "?"), cold.get("total", 0.0))
    return Group(Columns([left, right], padding=(0, 2)), seen)
