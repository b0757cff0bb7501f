"""`make demo`: a model sleeps, wakes for a request, answers with the wake's timeline, sleeps again.

It only puts the harness, the chart, the sample and `stoker chat` in a row, and tells what happens;
everything that it shows is what a user would type.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace

from e2e.harness.cluster import running_cluster
from e2e.harness.report import say
from e2e.harness.settings import REPOSITORY, HarnessError, Settings
from e2e.stage.bring_up import Stage, bring_up
from e2e.stage.release import NAMESPACE

_SAMPLE = REPOSITORY / "examples" / "tiny-chat.yaml"
_NAME = "tiny-chat"
_PROMPT = "What is 127 + 348?"


def main() -> int:
    """Run the demo; returns the exit status."""
    try:
        with running_cluster(replace(Settings.from_env(), keep=True)) as cluster:
            stage = bring_up(cluster)
            _sleep(stage)
            status = _wake(stage)
    except (HarnessError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    _tell_what_next(stage)
    return status


def _sleep(stage: Stage) -> None:
    say(f"applying {_SAMPLE.relative_to(REPOSITORY)}")
    stage.cluster.kubectl("apply", "-f", str(_SAMPLE))
    stage.release.wait(_NAME, lambda one: "conditions" in one.get("status", {}), "seen")
    stage.release.wait_at_zero(_NAME, timeout_s=180)
    print(f"\n$ kubectl get llm\n{stage.cluster.kubectl('get', 'llm')}")


def _wake(stage: Stage) -> int:
    print(f'$ stoker chat {_NAME} "{_PROMPT}" --timeline {_NAME}', flush=True)
    script = [sys.executable, "-m", "stoker_cli", "chat", _NAME, _PROMPT, "--timeline", _NAME]
    ended = subprocess.run(script, env=_environment(stage), check=False)
    time.sleep(0.2)
    print(f"\n$ kubectl get llm\n{stage.cluster.kubectl('get', 'llm')}")
    return ended.returncode


def _environment(stage: Stage) -> dict[str, str]:
    access = {"STOKER_URL": stage.release.url, "OPENAI_API_KEY": stage.release.api_key}
    return {**os.environ, **stage.cluster.kubectl.env, **access}


def _tell_what_next(stage: Stage) -> None:
    secret = f"kubectl -n {NAMESPACE} get secret stoker-api-key -o jsonpath='{{.data.api-key}}'"
    message = f'"messages": [{{"role": "user", "content": "{_PROMPT}"}}]'
    print(f"""The cluster stays up; the model goes back to sleep by itself. Try next:

  export KUBECONFIG={stage.cluster.kubectl.kubeconfig}
  export PATH={stage.cluster.kubectl.program.parent}:$PWD/.venv/bin:$PATH
  export STOKER_URL={stage.release.url}
  export OPENAI_API_KEY=$({secret} | base64 -d)

  kubectl get llm -w                                   # watch it sleep and wake
  stoker chat {_NAME} "Reverse the word furnace." --timeline {_NAME}
  stoker why {_NAME}                                # why it has the size it has
  kubectl explain llmdeployment.spec.scaling
  curl -N $STOKER_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{_NAME}", "stream": true, {message}}}'

  make demo-down                                       # remove all of it
""")


if __name__ == "__main__":
    sys.exit(main())
