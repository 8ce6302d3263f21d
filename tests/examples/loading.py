"""Examples as modules, whose functions tests call."""

from importlib.util import module_from_spec, spec_from_file_location

from tests.processes import ROOT


def example(name):
    """The module of an example."""
    spec = spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
