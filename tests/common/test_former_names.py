"""Former names of public things work with a warning, for two minor versions."""

from __future__ import annotations

import importlib
import warnings

import pytest

FORMER = {
    "skminibatch.layers": {name: f"{name}Norm" for name in ("Batch", "Ghost", "Layer", "Group", "Instance", "Hybrid")},
    "skminibatch.schedules": {"NoiseScale": "NoiseScaleSize"},
}
NAMES = [(module, former, present) for module, names in FORMER.items() for former, present in names.items()]


@pytest.mark.parametrize(("module", "former", "present"), NAMES)
def test_a_former_name_works_with_a_warning_at_the_line_that_uses_it(module, former, present):
    for line in (f"from {module} import {former} as part", f"import {module}\npart = {module}.{former}"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            namespace = {}
            exec(compile(line, "users.py", "exec"), namespace)
        assert namespace["part"] is getattr(importlib.import_module(module), present)
        assert caught
        for warning in caught:
            assert issubclass(warning.category, FutureWarning)
            assert warning.filename == "users.py"
            assert f"{module}.{former} is called {present} since version" in str(warning.message)
            assert "removed in" in str(warning.message)


@pytest.mark.parametrize("module", FORMER)
def test_other_names_are_unknown_and_former_ones_not_listed(module):
    found = importlib.import_module(module)
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        found.nothing  # noqa: B018
    assert not set(FORMER[module]) & {*dir(found), *found.__all__}
