"""Run the benchmarks: `python benchmarks/run.py [--only NAME ...]`.

The first run makes a virtual environment with the package and the peers, then starts itself there.
Each benchmark writes docs/benchmarks/NAME.md and its raw numbers into docs/benchmarks/results.json.
"""

import argparse
import importlib
import os
import subprocess
import sys
import time
import traceback
import venv
from dataclasses import dataclass
from pathlib import Path

import smoke

ROOT = Path(__file__).resolve().parents[1]
SMOKE_DATA = ROOT / "benchmarks" / "smoke_data"
PEERS = ["scikit-learn-intelex", "snapml", "torch==2.13.0"]
NAMES = [
    "epoch_dense",
    "epoch_sparse",
    "multinomial",
    "defaults_hflights",
    "saga_hflights",
    "defaults_regression",
    "defaults_sets",
    "never_diverges",
    "memory",
    "startup",
    "cost_model",
    "auto_batch_size",
    "batch_size_search",
    "comparison_coverage",
    "noise_statistics",
    "noise_scale_sample",
    "networks",
    "mnist",
    "normalization",
    "everyday",
    "optimum",
]


@dataclass(frozen=True)
class Context:
    """What a benchmark gets of the command line."""

    data: Path
    repeats: int


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_data = os.environ.get("SKMINIBATCH_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--data", type=Path, default=Path(default_data), help="folder with load.py and the data sets")
    parser.add_argument("--repeats", type=int, default=9, help="pairs of measurements (default 9)")
    parser.add_argument("--output", type=Path, help="where the tables go (default docs/benchmarks)")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="go through all of the code on tiny data, with --here; writes to --output only",
    )
    parser.add_argument(
        "--environment",
        type=Path,
        default=ROOT / ".benchmarks-env",
        help="virtual environment of the benchmarks",
    )
    parser.add_argument("--here", action="store_true", help="use the running interpreter, with the peers that it has")
    options = parser.parse_args(argv)
    if options.smoke:
        options.here, options.data, options.repeats = True, SMOKE_DATA, 1
    elif options.output is None:
        options.output = ROOT / "docs" / "benchmarks"
    return options


def interpreter(environment):
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(environment):
    """Make the environment if it is missing, or install what it lacks of the list."""
    stamp = environment / "installed.txt"
    wanted = "\n".join(["skminibatch", *PEERS])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"preparing the environment {environment.name}", flush=True)
    venv.create(environment, with_pip=True)
    (environment / ".gitignore").write_text("*\n")
    install = [interpreter(environment), "-m", "pip", "install", "--quiet"]
    # Editable, so that the environment always has the package as it stands.
    subprocess.run([*install, "--editable", ROOT, "threadpoolctl"], check=True)
    for peer in PEERS:
        # A peer without a wheel for this platform is left out of the tables rather than an error.
        if subprocess.run([*install, peer], check=False).returncode != 0:
            print(f"{peer} cannot be installed here and is left out", flush=True)
    stamp.write_text(wanted)


def run_benchmark(name, context, output):
    # Imported here: outside the environment none of these can be imported.
    import problems
    import report

    benchmark = importlib.import_module(name)
    if benchmark.NEEDS_DATA and not problems.has_data(context.data):
        print(f"{name}: skipped, it needs a data folder with load.py (--data or SKMINIBATCH_DATA)", flush=True)
        return
    print(f"{name}: running", flush=True)
    start = time.perf_counter()
    result = benchmark.run(context)
    if output is not None:
        report.write(name, result, report.facts(context.repeats), output)
    print("\n\n".join(table.markdown() for table in result.tables))
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def main():
    options = arguments()
    inside = Path(sys.prefix).resolve() == options.environment.resolve()
    if not options.here and not inside:
        prepare(options.environment)
        command = [interpreter(options.environment), Path(__file__).resolve(), *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, check=False).returncode)
    if options.smoke:
        os.environ[smoke.VARIABLE] = "1"  # before any benchmark is imported
    failed = []
    for name in options.only or NAMES:
        try:
            run_benchmark(name, Context(options.data.resolve(), options.repeats), options.output)
        except Exception:  # the others still run
            traceback.print_exc()
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
