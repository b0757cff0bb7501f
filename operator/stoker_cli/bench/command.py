"""`stoker bench URL [URL]`: from the options to the run, and from the results to an exit code.

Knows which options go together and their defaults; does not know how requests are sent, measured
or drawn.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal

import typer

from stoker_cli.address import complete_url
from stoker_cli.bench import options, report
from stoker_cli.bench.client import ServerUnusable, Target
from stoker_cli.bench.measure import Goals
from stoker_cli.bench.plan import Plan
from stoker_cli.bench.screen import Screen
from stoker_cli.bench.session import Session
from stoker_cli.option import check_writable

_CONCURRENCY = 8
_DURATION_S = 30.0
_INTERRUPTED, _TERMINATED = 130, 143


def bench(
    urls: options.Urls,
    model: options.Model = "",
    workload: options.WorkloadName = "short",
    scale: options.Scale = 1.0,
    rate: options.Rate = None,
    burstiness: options.Burstiness = 1.0,
    concurrency: options.Concurrency = None,
    requests: options.Requests = None,
    duration: options.Duration = None,
    trace: options.Trace = None,
    speed: options.Speed = 1.0,
    seed: options.Seed = 0,
    run_id: options.RunId = "",
    ttft_goal: options.TtftGoal = 2.0,
    tpot_goal: options.TpotGoal = 0.05,
    rounds: options.Rounds = 1,
    warmup: options.Warmup = 4,
    ignore_eos: options.IgnoreEos = False,
    timeout: options.Timeout = 600.0,
    api_key: options.ApiKey = "",
    json_file: options.JsonFile = None,
) -> None:
    """Load an OpenAI server, or two by turns; tell latencies, throughput and goodput."""
    check_writable("--json", json_file)
    try:
        plan = Plan(
            workload=options.read_workload(workload, scale),
            goals=Goals(ttft_goal, tpot_goal),
            seed=seed,
            rate=rate,
            burstiness=burstiness,
            concurrency=_CONCURRENCY
            if concurrency is None and not (rate or trace)
            else concurrency,
            num_requests=requests,
            duration_s=_DURATION_S if duration is None and not (requests or trace) else duration,
            trace=options.read_rows(trace, scale),
            speed=speed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    targets = [Target(complete_url(url), model, api_key, ignore_eos, timeout) for url in urls]
    run_id = run_id or secrets.token_hex(4)
    session = Session(targets, plan, run_id)
    code = _run(session, rounds, warmup)
    if json_file:
        document = report.build_document(plan, run_id, session.results)
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    raise typer.Exit(code)


def _run(session: Session, rounds: int, warmup: int) -> int:
    """Measure and print; the exit code. Ctrl-C and SIGTERM print what was measured until then."""
    if len(session.targets) > 2:
        raise typer.BadParameter("one URL is measured and two are compared, not more")
    code = 0
    with Screen(session.plan, rounds * len(session.targets)) as screen:
        session.watcher = screen
        try:
            asyncio.run(_run_until_told(session, rounds, warmup))
        except KeyboardInterrupt:
            code = _INTERRUPTED
        except asyncio.CancelledError:
            code = _TERMINATED
        except ServerUnusable as error:
            typer.secho(str(error), fg="red", err=True)
            code = 1
    if len(session.targets) == 2:
        screen.show_ratios(session.results)
    is_vain = not any(result.summary.num_ok for result in session.results)
    return code or int(is_vain)


async def _run_until_told(session: Session, rounds: int, warmup: int) -> None:
    """SIGTERM cancels it, as asyncio itself does at Ctrl-C."""
    task = asyncio.current_task()
    assert task, "asyncio runs this as a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await session.run(rounds, warmup)
