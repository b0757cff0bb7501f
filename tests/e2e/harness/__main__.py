"""The harness by hand: `PYTHONPATH=tests python -m e2e.harness prepare|up|down|status|images|env`.

`prepare` builds and fetches all that a cluster and the stories need, and starts nothing.
`env` prints what a shell needs: `eval "$(python -m e2e.harness env)"` puts KUBECONFIG, kubectl
and helm in reach.
"""

import argparse
import sys

from e2e.harness.images import ensure_image, ensure_stub
from e2e.harness.provider import choose, make_provider
from e2e.harness.report import say
from e2e.harness.settings import HarnessError, Settings
from e2e.harness.toolchain import tools


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a failure is one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="e2e.harness", description=__doc__)
    parser.add_argument("command", choices=["prepare", "up", "down", "status", "images", "env"])
    parser.add_argument("--gpu", action="store_true", help="images: build the GPU runtime as well")
    options = parser.parse_args(arguments)
    try:
        print(_run(options.command, Settings.from_env(), gpu=options.gpu))
    except HarnessError as error:
        say(f"error: {error}")
        return 1
    return 0


def _run(command: str, settings: Settings, *, gpu: bool) -> str:
    provider = make_provider(settings)
    match command:
        case "prepare":
            provider.prepare()
            tools(settings.cache, ["kubectl", "helm"])
            return _images(settings, gpu=gpu)
        case "up":
            return f"export KUBECONFIG={provider.up()}"
        case "down":
            provider.down()
        case "images":
            return _images(settings, gpu=gpu)
        case "env":
            found = tools(settings.cache, ["kubectl", "helm"])
            folders = ":".join(str(program.parent) for program in found.values())
            return f"export KUBECONFIG={settings.kubeconfig} PATH={folders}:$PATH"
    state = "up" if provider.runs() else "down"
    return f"{choose(settings)} cluster {settings.name}: {state}"


def _images(settings: Settings, *, gpu: bool) -> str:
    """Names of our images, built when they are new; the user's own for `current`."""
    if settings.image:
        return "\n".join([settings.image, settings.runtime_image, settings.stub_image])
    names = [ensure_image(settings, "stoker"), ensure_image(settings, "cpu")]
    names += [ensure_image(settings, "gpu")] if gpu else []
    return "\n".join([*names, ensure_stub(settings)])


if __name__ == "__main__":
    sys.exit(main())
