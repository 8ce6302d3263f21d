"""The lists of the documentation, made from the registries: the page ``api.rst`` and one table per kind of part.

``conf.py`` writes them before the pages are read, and git ignores them: a part that is registered is listed.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import skminibatch
from skminibatch.contract import kinds
from skminibatch.layers import ACTIVATIONS, NORMALIZATIONS
from skminibatch.losses import LOSSES
from skminibatch.optimizers import OPTIMIZERS
from skminibatch.samplers import SAMPLERS
from skminibatch.schedules import SCALING_RULES, SCHEDULES, SIZE_SCHEDULES


class Kind(NamedTuple):
    """A kind of part: its title, the public module of its classes, the parameter that takes it, and its registry.

    ``columns`` are further columns of its table in the user guide, by their head.
    """

    title: str
    module: str
    parameter: str
    registry: dict[str, type]
    columns: dict[str, Callable[[type], str]] = {}


KINDS = {
    "losses": Kind("Losses", "losses", "loss", LOSSES, {"for": lambda loss: kinds.declaration(loss)["task"]}),
    "optimizers": Kind("Optimizers", "optimizers", "solver", OPTIMIZERS),
    "rates": Kind("Learning-rate schedules", "schedules", "learning_rate", SCHEDULES),
    "sizes": Kind("Batch-size schedules", "schedules", "batch_size", SIZE_SCHEDULES),
    "scaling_rules": Kind("Scaling rules", "schedules", "lr_scaling", SCALING_RULES),
    "samplers": Kind("Samplers", "samplers", "sampler", SAMPLERS),
    "normalizations": Kind("Normalizations", "layers", "normalization", NORMALIZATIONS),
    "activations": Kind("Activations", "layers", "activation", ACTIVATIONS),
}
# Public modules with their titles on the page of the API; those of the parts follow, kind by kind.
MODULES = {
    "": "Estimators",
    "model_selection": "Choosing a batch size and a rate",
    "diagnostics": "Diagnostics",
    "cost_model": "Cost of a batch size",
    "plotting": "Plots",
}
PART_MODULES = ["losses", "penalties", "optimizers", "schedules", "samplers", "layers"]
PARTS = """Parts
-----

A part is a named tuple of hyper-parameters. An instance takes the place of a name in the parameter of its kind, as in
``MiniBatchSGDClassifier(solver=Momentum(0.95))``.
"""


def public(module: str) -> dict[str, object]:
    """Functions, then classes, of a public module by their paths, in the order of its ``__all__``; no registries."""
    home = import_module(f"skminibatch.{module}".rstrip("."))
    values = {f"{home.__name__}.{name}": getattr(home, name) for name in home.__all__}
    functions = {path: value for path, value in values.items() if inspect.isfunction(value)}
    return functions | {path: value for path, value in values.items() if inspect.isclass(value)}


def path_of(part: type, module: str) -> str:
    """Where a class is documented: in the public module of its kind, or where it is defined."""
    for path, value in public(module).items():
        if value is part:
            return path
    return f"{part.__module__}.{part.__name__}"


def api() -> str:
    """The page of the API: every public name, and every part that is registered."""
    sections = ["API reference\n=============\n"]
    sections += [_section(title, "-", public(module)) for module, title in MODULES.items()]
    sections.append(PARTS)
    for module in PART_MODULES:
        listed: dict[str, None] = {}
        for kind in (kind for kind in KINDS.values() if kind.module == module):
            paths = dict.fromkeys(path_of(part, module) for part in kind.registry.values())
            text = f"For the parameter ``{kind.parameter}``.\n"
            sections.append(_section(kind.title, "^", paths, "autosummary/part.rst", text))
            listed |= paths
        if others := [path for path in public(module) if path not in listed]:
            title = f"Other {module}" if listed else module.capitalize()
            sections.append(_section(title, "^", others, "autosummary/part.rst"))
    return "\n".join(sections)


def _section(title: str, line: str, paths: Iterable[str], template: str = "", text: str = "") -> str:
    """A heading, a sentence, and a summary of some names, each with a page."""
    options = "   :toctree: generated\n" + (f"   :template: {template}\n" if template else "")
    names = "".join(f"   ~{path}\n" for path in paths)
    head = f"{title}\n{line * len(title)}\n\n" + (f"{text}\n" if text else "")
    return f"{head}.. autosummary::\n{options}\n{names}"


def instance(part: type) -> str:
    """The call that makes a part, with its hyper-parameters and their defaults."""
    defaults = part._field_defaults
    return f"{part.__name__}({', '.join(f'{name}={defaults[name]!r}' if name in defaults else name for name in part._fields)})"


def summary(thing) -> str:
    """The first line of a docstring."""
    return inspect.getdoc(thing).split("\n")[0].removesuffix(".")


def table(kind: Kind) -> str:
    """One row per registered name, in MyST: the name, the instance, and the first line of its docstring."""
    head = [f"`{kind.parameter}`", "instance", *kind.columns, "what it is"]
    rows = [
        [
            f"`{name!r}`",
            f"{{py:class}}`{instance(part)} <{path_of(part, kind.module)}>`",
            *(column(part) for column in kind.columns.values()),
            summary(part),
        ]
        for name, part in kind.registry.items()
    ]
    return _markdown(head, rows)


def interface(kind: kinds.Kind) -> str:
    """What a part of a kind has to have and may have, with the defaults, from its declaration."""
    rows = [[f"``{text.split(': ')[0]}``", text.split(": ", 1)[1], "required"] for text in kind.required.values()]
    for name, ability in kind.abilities.items():
        member, text = ability.text.split(": ", 1) if ability.text.startswith(name) else (name, ability.text)
        default = ability.default
        words = default.__name__.strip("_").replace("_", " ") if inspect.isfunction(default) else f"``{default!r}``"
        rows.append([f"``{member}``", text, words])
    return _markdown(["member", "what it is", "default"], rows)


def auto_rates() -> str:
    """What ``learning_rate='auto'`` is for each solver with its default hyper-parameters."""
    rows = []
    for name, part in OPTIMIZERS.items():
        declares, rate = kinds.declared(part()), "none: set a rate"
        if declares.auto_rate is not None:
            rate = f"{declares.auto_rate:g}"
        elif declares.brings("auto_multiple"):
            rate = f"${declares.auto_multiple():g} / L$"
        rows.append([f"`{name!r}`", rate])
    return _markdown(["`solver`", "rate of a batch $B$ with `learning_rate='auto'`"], rows)


def functions() -> str:
    """The functions of `skminibatch.diagnostics`."""
    found = {path: value for path, value in public("diagnostics").items() if inspect.isfunction(value)}
    return _markdown(
        ["function", "result"], [[f"{{py:func}}`~{path}`", summary(value)] for path, value in found.items()]
    )


def examples() -> str:
    """The scripts in ``examples/``: the first line of each is a question with its answer."""
    rows = []
    for path in sorted((Path(__file__).parents[1] / "examples").glob("*.py")):
        question, answer = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n")[0].split("? ", 1)
        rows.append([f"`{path.name}`", f"{question}?", answer])
    return _markdown(["script", "question", "answer"], rows)


def modules() -> str:
    """The modules of the package, folder by folder, with the first lines of their docstrings."""
    root = Path(skminibatch.__file__).parent
    rows = []
    for path in sorted(root.rglob("*.py"), key=lambda path: (path.parent.relative_to(root).parts, path.name)):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        rows.append([f"`{path.relative_to(root).as_posix()}`", text.split("\n")[0] if text else ""])
    return _markdown(["module", "what it is"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables() -> dict[str, str]:
    """The tables that pages include, by name."""
    made = {"auto_rates": auto_rates(), "diagnostics": functions(), "examples": examples(), "modules": modules()}
    made |= {f"interface_{_file(kind)}": interface(kind) for kind in kinds.KINDS}
    return made | {name: table(kind) for name, kind in KINDS.items()}


def _file(kind: kinds.Kind) -> str:
    return kind.name.replace(" ", "_").replace("-", "_")


def write(folder: Path) -> None:
    """Write the page of the API and the tables into the folder of the documentation; unchanged files keep their time.

    Pages of names that no longer exist are removed: Sphinx would find them outside of every table of contents.
    """
    files = {"api.rst": api(), **{f"generated/tables/{name}.md": text for name, text in tables().items()}}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for page in (folder / "generated").glob("*.rst"):  # of names that are gone
        if f"   ~{page.stem}\n" not in files["api.rst"]:
            page.unlink()


if __name__ == "__main__":
    write(Path(__file__).parent)
