"""The docstrings of the estimators are complete: every parameter in the order of the signature, every fitted attribute."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from numpydoc.docscrape import NumpyDocString

import skminibatch
from skminibatch.estimators.docstrings import documented, entries, options

ESTIMATORS = [getattr(skminibatch, name) for name in skminibatch.__all__]
DOCUMENTED = [*ESTIMATORS, *(getattr(cls, method) for cls in ESTIMATORS for method in ("fit", "partial_fit"))]


def section(documented_object, title: str) -> dict[str, str]:
    """The types of the entries of a section, by name."""
    parsed = NumpyDocString(inspect.getdoc(documented_object))[title]
    return {name: entry.type for entry in parsed for name in entry.name.split(", ")}


@pytest.mark.parametrize("documented_object", DOCUMENTED, ids=lambda one: one.__qualname__)
def test_parameters_are_those_of_the_signature_with_its_defaults(documented_object):
    parameters = {k: v for k, v in inspect.signature(documented_object).parameters.items() if k != "self"}
    types = section(documented_object, "Parameters")
    assert list(types) == list(parameters)
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert "default" not in types[name]
        else:
            assert repr(parameter.default) in types[name].split("default=")[1]


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_attributes_are_those_of_a_fitted_estimator(cls):
    X = pd.DataFrame({"length": np.arange(20.0), "width": np.arange(20.0) % 3})
    fitted = cls(max_iter=1, tol=None, device="base").fit(X, np.arange(20) % 2)
    public = {name for name in dir(fitted) if name.endswith("_") and not name.startswith("_")}
    assert set(section(cls, "Attributes")) == public


def test_the_summary_comes_first_and_the_example_last():
    text = inspect.getdoc(skminibatch.MiniBatchSGDClassifier)
    assert text.startswith("Linear classification by mini-batch stochastic gradient descent.\n\nParameters\n---")
    assert text.endswith("True")


def test_names_come_from_the_registries():
    assert options(skminibatch.MiniBatchMLPRegressor, "learning_rate") == (
        "{'auto', 'constant', 'invscaling', 'adaptive', 'cosine'}"
    )
    assert options(skminibatch.MiniBatchSGDRegressor, "penalty") == "{'l2', 'l1', 'elasticnet'}"


def test_a_parameter_without_a_text_is_refused():
    with pytest.raises(KeyError, match="second"):

        @documented(entries("first : int\n    A number."))
        def function(first, second=1):
            """Add two numbers."""


def test_one_text_serves_several_parameters_that_are_there():
    texts = entries("first, second, third : int\n    Numbers.\n    Of any sign.")

    @documented(texts, "Returns\n-------\nint")
    def function(self, first=1, second=2):
        """Add two numbers.

        Slowly.
        """

    assert function.__doc__ == (
        "Add two numbers.\n\nParameters\n----------\nfirst, second : int, default=1, 2\n    Numbers.\n    Of any sign."
        "\n\nReturns\n-------\nint\n\nSlowly."
    )
