"""The house rules that can be read from the source: who imports whom, and how large things are."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skminibatch

ROOT = Path(skminibatch.__file__).parent
TESTS = Path(__file__).parent
FILES = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}

# Floors of the house, from the roof down: a module imports from lower floors only, or from its own folder.
FLOORS = [
    {"__init__"},
    {"plotting", "calibrate", "warmup"},
    {"model_selection"},
    {"linear_model", "neural_network"},
    {"estimators", "diagnostics"},
    {"preparation"},
    {"training"},
    {"models"},
    {"backends"},
    {"statistics", "cost_model"},
    {"losses", "penalties", "optimizers", "samplers", "schedules", "layers"},
    {"contract"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
GROUND = FLOORS[-1] | FLOORS[-2] | {"statistics", "cost_model"}
INNER = set("backends contract estimators models preparation statistics training".split())  # not for users
THIRD_PARTY = set("numpy scipy sklearn joblib numba llvmlite cupy matplotlib pandas dask torch".split())
LONGEST_MODULE, LONGEST_CLASS, LONGEST_FUNCTION = 400, 300, 60  # lines of code
MOST_FLOORS, MOST_HASATTR = 12, 5


def part_of(name: str) -> str:
    """The folder or top-level module that a file belongs to."""
    return name.split("/")[0]


def imports(name: str) -> set[str]:
    """Absolute names of everything that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def file_of(imported: str) -> str | None:
    """The file of the package that an import reads; None for other packages."""
    parts = imported.split(".")
    if parts[0] != "skminibatch":
        return None
    names = ["/".join(parts[1:stop]) for stop in range(len(parts), 0, -1)]
    return next(file for name in names for file in (name, f"{name}/__init__".lstrip("/")) if file in FILES)


def packages(name: str) -> set[str]:
    """Third-party packages that a file imports."""
    return {imported.split(".")[0] for imported in imports(name)} & THIRD_PARTY


def code_lines(path: Path) -> set[int]:
    """Lines that are neither blank nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    skipped = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


@pytest.mark.parametrize("name", FILES)
def test_imports_go_downwards(name):
    here = part_of(name)
    assert here in FLOOR, f"{here} has no floor: place it in FLOORS"
    for imported in imports(name):
        if imported.split(".")[0] != "skminibatch":
            continue
        assert "." in imported, f"{name} imports the package itself"
        target = imported.split(".")[1]
        assert target in FLOOR, f"{name} imports {imported}"
        assert target == here or FLOOR[target] > FLOOR[here], f"{name} imports {imported}, which is not below it"


def test_there_are_few_floors():
    assert len(FLOORS) <= MOST_FLOORS
    assert sorted(FLOOR) == sorted({part_of(name) for name in FILES})


def test_no_import_runs_in_a_circle():
    """Not even between modules of one folder, nor by an import inside a function."""
    graph = {name: {file_of(imported) for imported in imports(name)} - {None, name} for name in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1][::-1]))


@pytest.mark.parametrize("name", FILES)
def test_compilers_stay_in_their_backend(name):
    found = packages(name)
    assert name.startswith("backends/cpu/") or not found & {"numba", "llvmlite"}
    assert name.startswith("backends/gpu/") or "cupy" not in found
    assert part_of(name) in {"plotting", "model_selection"} or "matplotlib" not in found


@pytest.mark.parametrize("name", [name for name in FILES if part_of(name) in GROUND])
def test_the_ground_floor_stands_on_numpy_and_scipy(name):
    assert packages(name) <= {"numpy", "scipy"}


def test_there_is_no_folder_for_odds_and_ends():
    assert not [name for name in FILES if {"utils", "helpers", "common", "misc"} & set(name.split("/"))]


def test_no_two_classes_have_one_name():
    """The backends are mirror images: there alone, a name may come once in each wing."""
    trees = [tree for name, tree in TREES.items() if part_of(name) != "backends"]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("name", FILES)
def test_modules_classes_and_functions_are_short(name):
    lines = code_lines(FILES[name])
    assert len(lines) <= LONGEST_MODULE, f"{name} has {len(lines)} lines of code"
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            inside = len(lines & set(range(node.body[0].lineno, node.end_lineno + 1)))
            assert inside <= LONGEST_FUNCTION, f"{name}: {node.name} has {inside} lines of code"
        elif isinstance(node, ast.ClassDef):
            inside = len(lines & set(range(node.lineno, node.end_lineno + 1)))
            assert inside <= LONGEST_CLASS, f"{name}: {node.name} has {inside} lines of code"


def test_abilities_are_declared():
    """Parts declare what they can do: next to nothing is found out by `hasattr`."""
    calls = [
        f"{name}, line {node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
    ]
    assert len(calls) <= MOST_HASATTR, "\n".join(calls)


@pytest.mark.parametrize(
    "folder", sorted({path.parent.relative_to(ROOT).as_posix() for path in FILES.values()} - {"."})
)
def test_tests_are_laid_out_as_the_package(folder):
    assert list((TESTS / folder).rglob("test_*.py"))


def test_no_test_imports_another_one():
    """What several of them share is in modules that are not tests."""
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests"):
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not [name for name in names if name.startswith("test_")], path


SOME = '''"""Text
of two lines."""

# comment
def f(a,
      b):
    """Text."""

    return [
        a, b]
'''


def test_lines_of_code_are_counted(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(SOME)
    assert code_lines(path) == {5, 6, 9, 10}


IMPORTS = """
import sys, sklearn.linear_model
before = set(sys.modules)
import skminibatch
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_n7_import_is_light(run_python):
    """Neither the compiler nor anything that only some users need is imported with the package."""
    heavy = {"numba", "llvmlite", "cupy", "matplotlib", "pandas", "rich", "dask", "torch", "pytest"}
    modules = set(run_python(IMPORTS).split())
    assert "skminibatch" in modules
    assert not modules & heavy


def test_n7_the_base_device_needs_no_compiler(run_python):
    run_python(
        "import sys, numpy as np; from skminibatch import MiniBatchSGDRegressor\n"
        "X = np.random.default_rng(0).standard_normal((50, 2))\n"
        "MiniBatchSGDRegressor(device='base').fit(X, X[:, 0]).predict(X)\n"
        "assert 'numba' not in sys.modules"
    )


def test_public_names():
    assert skminibatch.__all__ == sorted(skminibatch.__all__)
    assert all(hasattr(skminibatch, name) for name in skminibatch.__all__)


def test_submodules_are_reachable_when_they_are_needed(run_python):
    """As scikit-learn's are: `import skminibatch` alone makes every public submodule an attribute, without importing it."""
    folders = {name.split("/")[0] for name in FILES} - {"__init__"} - INNER
    assert folders == skminibatch._SUBMODULES
    assert folders <= set(dir(skminibatch))
    run_python(
        "import sys, skminibatch\n"
        "assert 'skminibatch.diagnostics' not in sys.modules\n"
        "assert skminibatch.diagnostics.gradient_noise_scale is sys.modules['skminibatch.diagnostics'].gradient_noise_scale"
    )
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        skminibatch.nothing  # noqa: B018
