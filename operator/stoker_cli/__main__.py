"""The `stoker` command: one sub-command per file.

Knows which commands there are; does not know what they do. Installed as the script `stoker`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from stoker_cli.bench.command import bench
from stoker_cli.chat import chat
from stoker_cli.fit import fit
from stoker_cli.kernels import kernels
from stoker_cli.quantize import quantize
from stoker_cli.serve import serve
from stoker_cli.simulate.command import simulate
from stoker_cli.why import why

_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app = typer.Typer(
    name="stoker",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"stoker {version('stoker')}")
        raise typer.Exit


@app.callback()
def group(
    tell_version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Serverless language models on Kubernetes."""


app.command()(bench)
app.command()(chat)
app.command()(quantize)
app.command(context_settings=_PASSED_ON)(serve)
app.command()(fit)
app.command()(simulate)
app.add_typer(kernels, name="kernels")
app.command()(why)

if __name__ == "__main__":
    app()
