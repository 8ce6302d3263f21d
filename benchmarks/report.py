"""What a benchmark returns, and how it becomes a Markdown page and a JSON entry."""

import datetime
import json
import os
import platform
from dataclasses import dataclass, field
from importlib import metadata

PACKAGES = [
    "skminibatch",
    "scikit-learn",
    "numpy",
    "scipy",
    "numba",
    "scikit-learn-intelex",
    "snapml",
    "torch",
]


@dataclass
class Table:
    """A title, columns, rows of values that print well, and what a reader must know to read them."""

    title: str
    columns: list
    rows: list = field(default_factory=list)
    note: str = ""

    def markdown(self):
        lines = [f"## {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|" + " --- |" * len(self.columns))
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


@dataclass
class Result:
    """The tables of one benchmark and the raw numbers behind them."""

    title: str
    question: str
    tables: list
    records: list


def n_cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def thread_counts():
    """One thread, and two where there are two cores."""
    return [1, 2] if n_cores() > 1 else [1]


def facts(repeats):
    """Where and with what the numbers were taken."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": n_cores(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "repeats": repeats,
    }


def page(name, result, facts):
    """The Markdown page of one benchmark."""
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    parts = [
        f"# {result.title}",
        result.question,
        *[table.markdown() for table in result.tables],
        f"Measured on {facts['date']}: {facts['cores']} cores, {facts['machine']}, Python {facts['python']}; "
        f"{versions}. Written by `python benchmarks/run.py --only {name}`; the raw numbers are in "
        "`docs/benchmarks/results.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def write(name, result, facts, folder):
    """Write the page, and put the raw numbers into results.json beside those of other benchmarks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(page(name, result, facts), encoding="utf-8")
    path = folder / "results.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stored[name] = {"facts": facts, "records": result.records}
    path.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n", encoding="utf-8")
