"""What to say where the runtime's libraries are missing.

Knows how they are installed; does not know which command needs which of them.
"""

from __future__ import annotations

from typing import NoReturn

import typer


def refuse_without(*libraries: str) -> NoReturn:
    """End the command: it needs what is not installed."""
    words = f"the runtime is not installed ({', '.join(libraries)} missing)"
    typer.secho(f"{words}: pip install 'stoker[runtime,torch]'", fg="red", err=True)
    raise typer.Exit(1)
