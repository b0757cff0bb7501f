"""The autoscaler against others on request traces: builds the outside bench and runs it.

Knows where the bench and its traces are told to be and how our adapter is started; the bench, its
replica model and its baselines are not part of this repository. `make bench-autoscaler` calls it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import synthetic

ADAPTER = f"{sys.executable} -m stoker_cli.policy"
PEERS = "kpa-cc,hpa"


def build(source: Path, folder: Path) -> Path:
    """Compile a copy of the bench, so that nothing is written beside its source."""
    copy = folder / "bench"
    shutil.copytree(source, copy)
    subprocess.run(["go", "build", "-o", "asb", "."], cwd=copy, check=True)
    return copy / "asb"


def run(binary: Path, options: argparse.Namespace) -> None:
    """One table with the peers, one with the last replica parked."""
    common = [str(binary), "-traces", options.traces, "-profiles", options.profiles]
    common += ["-no-oracle"] if options.no_oracle else []
    serving = ["-policies", options.policies, "-external", ADAPTER, "-external-name", "stoker"]
    subprocess.run(common + serving, check=True)
    if options.park:
        parked = ["-warm-cost", "0.1", "-policies", "", "-external", f"{ADAPTER} --park"]
        subprocess.run([*common, *parked, "-external-name", "stoker-parked"], check=True)


def main() -> None:
    """Parse the options, build, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", default=os.environ.get("AUTOSCALER_BENCH"), help="its folder")
    parser.add_argument("--binary", help="the bench, built already")
    parser.add_argument("--traces", help="glob of traces; default: those beside the bench")
    parser.add_argument("--synthetic", action="store_true", help="traces by stated laws instead")
    parser.add_argument("--profiles", default="8b:25", help="profile:cold_start_s, …")
    parser.add_argument("--policies", default=PEERS, help="the peers in the table")
    parser.add_argument("--no-oracle", action="store_true", help="skip the clairvoyant search")
    parser.add_argument("--park", action="store_true", help="also with the last replica parked")
    options = parser.parse_args()
    if not options.bench and not (options.binary and (options.traces or options.synthetic)):
        parser.error("give --bench FOLDER or set AUTOSCALER_BENCH: the bench is not part of Stoker")
    if options.traces is None and not options.synthetic:
        options.traces = str(Path(options.bench).resolve().parent / "traces" / "*.csv.gz")
    with tempfile.TemporaryDirectory() as folder:
        binary = options.binary or build(Path(options.bench), Path(folder))
        if options.synthetic:
            options.traces = synthetic.write(Path(folder))
        run(Path(binary).resolve(), options)


if __name__ == "__main__":
    main()
