"""scikit-learn's own tests of MLPClassifier and MLPRegressor, run on our classes.

The installed test module is loaded under another name, with the two classes replaced by ours in scikit-learn's settings.
There is no solver 'lbfgs': where a test asks for it, Adam takes its place, with steps and passes enough to go as far. What is
left out, and why, stands in `LEFT_OUT`.
"""

import inspect
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import sklearn
import sklearn.neural_network

from skminibatch import MiniBatchMLPClassifier, MiniBatchMLPRegressor
from tests.reference.theirs import executed, expect_failure

pytestmark = pytest.mark.slow

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"

PRIVATE = "a private attribute of scikit-learn"
WORDS = "other words"  # of an error, or printed


def different(what):
    """A deliberate difference, with the name that it has in docs/differences.md."""
    return f"a deliberate difference: {what}"


NO_LBFGS = different("No lbfgs")
LOGARITHMS = different("Logarithms of probabilities")  # in rows where the model is sure
LEFT_OUT = {
    "test_adaptive_learning_rate": PRIVATE,
    "test_early_stopping": different("Attributes of a fit"),
    "test_early_stopping_stratified": WORDS,
    "test_gradient": PRIVATE,
    "test_lbfgs_classification_maxfun": NO_LBFGS,
    "test_lbfgs_regression_maxfun": NO_LBFGS,
    "test_learning_rate_warmstart": PRIVATE,
    "test_minimum_input_sample_size": WORDS,
    "test_mlp_diverging_loss": different("Divergence"),
    "test_mlp_partial_fit_after_fit": WORDS,
    "test_mlp_warm_start_no_convergence[lbfgs-MLPClassifier]": NO_LBFGS,
    "test_mlp_warm_start_no_convergence[lbfgs-MLPRegressor]": NO_LBFGS,
    "test_n_iter_no_change": PRIVATE,
    "test_n_iter_no_change_inf": PRIVATE,
    "test_nonfinite_params": WORDS,
    "test_partial_fit_errors": NO_LBFGS,
    "test_predict_proba_multilabel": LOGARITHMS,
    "test_preserve_feature_names[MLPClassifier]": different("One class"),
    "test_verbose_sgd": WORDS,
    "test_warm_start": different("Classes of a warm start"),
}
LBFGS = {"solver": "adam", "learning_rate": "cosine", "learning_rate_init": 0.02, "batch_size": "full", "tol": None}
PASSES = 4  # of Adam over all rows for one of L-BFGS


def _like(theirs, ours):
    """A constructor with scikit-learn's parameters and defaults that calls ours."""
    signature = inspect.signature(theirs.__init__)

    def constructor(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        settings = {name: setting for name, setting in given.arguments.items() if name not in ("self", "max_fun")}
        if settings["batch_size"] == "auto":
            settings["batch_size"] = 200
        if settings["solver"] == "lbfgs":
            settings |= {**LBFGS, "max_iter": PASSES * settings["max_iter"]}
        ours.__init__(self, **settings)
        self.max_fun = given.arguments["max_fun"]  # of L-BFGS

    constructor.__signature__ = signature
    return constructor


class MLPClassifier(MiniBatchMLPClassifier):
    __init__ = _like(sklearn.neural_network.MLPClassifier, MiniBatchMLPClassifier)


class MLPRegressor(MiniBatchMLPRegressor):
    __init__ = _like(sklearn.neural_network.MLPRegressor, MiniBatchMLPRegressor)


def _loaded() -> ModuleType:
    """scikit-learn's test module with our classes."""
    networks = ModuleType("sklearn.neural_network")
    vars(networks).update(vars(sklearn.neural_network), MLPClassifier=MLPClassifier, MLPRegressor=MLPRegressor)
    patched = mock.patch.dict(sys.modules, {"sklearn.neural_network": networks})
    module = executed("sklearn.neural_network.tests.test_mlp", patched)
    assert module.MLPClassifier is MLPClassifier
    return module


THEIRS = _loaded()
TESTS = {name: test for name, test in vars(THEIRS).items() if name.startswith("test_")}
globals().update(TESTS)


@pytest.fixture(autouse=True)
def _left_out(request):
    expect_failure(request, LEFT_OUT, by_chance=LOGARITHMS)


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_exists(name):
    assert name.partition("[")[0] in TESTS


@pytest.mark.parametrize("reason", sorted(set(LEFT_OUT.values())))
def test_reason_is_of_a_known_kind(reason):
    if reason not in (PRIVATE, WORDS):
        what = reason.removeprefix("a deliberate difference: ")
        assert what != reason
        assert f"**{what}**" in DIFFERENCES.read_text(encoding="utf-8")
