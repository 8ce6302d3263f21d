"""scikit-learn's own tests of SGDClassifier and SGDRegressor, run on our classes with batches of one row.

The installed test module is loaded under another name, with the two classes replaced by ours in scikit-learn's
settings and its compiled losses replaced by ours. What is left out, and why, stands in `LEFT_OUT`.
"""

import inspect
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import sklearn
import sklearn.linear_model

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.contract.verbs import gradient, value
from skminibatch.losses import LOSSES, EpsilonInsensitive, Hinge, ModifiedHuber, Perceptron, SquaredHinge
from skminibatch.losses import SquaredEpsilonInsensitive as SquaredEpsilon
from tests.reference.theirs import executed, expect_failure

pytestmark = pytest.mark.slow

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"

PRIVATE = "a private attribute of scikit-learn"
ORDER = "scikit-learn's exact generator order"


def different(what):
    """A deliberate difference, with the name that it has in docs/differences.md."""
    return f"a deliberate difference: {what}"


SPARSE_INTERCEPT = different("The intercept of sparse data")
LEFT_OUT = {
    "test_average_binary_computed_correctly[SparseSGDClassifier]": SPARSE_INTERCEPT,
    "test_average_sparse[SparseSGDRegressor]": SPARSE_INTERCEPT,
    "test_balanced_weight": different("Class weights in one-vs-rest"),
    "test_class_weights": ORDER,  # asks for one side of a point on the boundary of the optimum
    "test_input_format[SGDRegressor]": different("Several outputs"),
    "test_input_format[SparseSGDRegressor]": different("Several outputs"),
    "test_large_regularization[l2]": different("Divergence"),
    "test_late_onset_averaging_not_reached[SparseSGDClassifier]": different("Rounding on sparse rows"),
    "test_late_onset_averaging_not_reached[SparseSGDRegressor]": different("Rounding on sparse rows"),
    "test_late_onset_averaging_reached[SparseSGDClassifier]": SPARSE_INTERCEPT,
    "test_late_onset_averaging_reached[SparseSGDRegressor]": SPARSE_INTERCEPT,
    "test_loss_function_epsilon": PRIVATE,
    "test_multi_thread_multi_class_and_early_stopping": ORDER,  # asks for a number of epochs
    "test_numerical_stability_large_gradient": different("Divergence"),
    "test_partial_fit_weight_class_balanced": different("Balanced class weights in partial_fit"),
    "test_plain_has_no_average_attr": PRIVATE,
    "test_tol_parameter": ORDER,  # asks for more epochs with a smaller tol: both fits are at the optimum after one
    "test_power_t_limits": different("Negative power_t"),
    "test_sample_weights": ORDER,  # as test_class_weights
    "test_sgd_averaged_computed_correctly[SparseSGDRegressor]": SPARSE_INTERCEPT,
    "test_sgd_averaged_partial_fit[SparseSGDRegressor]": SPARSE_INTERCEPT,
    "test_sgd_error_on_zero_validation_weight": different("Rows of weight zero"),
    "test_sgd_l1": different("L1 by a proximal step"),
    "test_sgd_multiclass_average[SparseSGDClassifier]": SPARSE_INTERCEPT,
    "test_sgd_proba[SparseSGDClassifier]": SPARSE_INTERCEPT,
    "test_validation_mask_correctly_subsets": PRIVATE,
    "test_validation_set_not_used_for_training[SGDClassifier]": different("Early stopping"),
    "test_validation_set_not_used_for_training[SparseSGDClassifier]": different("Early stopping"),
}


class _EtaOfOtherRates:
    """`eta0` has a default in scikit-learn and is ignored by 'optimal'; here it is an error there."""

    @property
    def eta0(self):
        return None if self.learning_rate == "optimal" else self._eta0

    @eta0.setter
    def eta0(self, eta0):
        self._eta0 = eta0


def _like(theirs, ours):
    """A constructor with scikit-learn's parameters and defaults that calls ours."""
    signature = inspect.signature(theirs.__init__)

    def constructor(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        settings = {name: setting for name, setting in given.arguments.items() if name != "self"}
        ours.__init__(self, solver="sgd", batch_size=1, **settings)

    constructor.__signature__ = signature
    return constructor


class SGDClassifier(_EtaOfOtherRates, MiniBatchSGDClassifier):
    loss_functions = dict.fromkeys(set(LOSSES) - {"poisson", "quantile"})
    __init__ = _like(sklearn.linear_model.SGDClassifier, MiniBatchSGDClassifier)


class SGDRegressor(_EtaOfOtherRates, MiniBatchSGDRegressor):
    __init__ = _like(sklearn.linear_model.SGDRegressor, MiniBatchSGDRegressor)


def _compiled(loss):
    """A loss of ours with the methods of scikit-learn's compiled ones that its tests call."""

    def py_loss(raw, y):
        return value(loss, np.float64(raw), np.float64(y))

    def py_dloss(raw, y):
        return gradient(loss, np.float64(raw), np.float64(y))

    return SimpleNamespace(py_loss=py_loss, py_dloss=py_dloss)


COMPILED = SimpleNamespace(
    Hinge=lambda threshold: _compiled(Hinge() if threshold else Perceptron()),
    SquaredHinge=lambda threshold: _compiled(SquaredHinge()),
    ModifiedHuber=lambda: _compiled(ModifiedHuber()),
    EpsilonInsensitive=lambda epsilon: _compiled(EpsilonInsensitive(epsilon)),
    SquaredEpsilonInsensitive=lambda epsilon: _compiled(SquaredEpsilon(epsilon)),
)


def _loaded() -> ModuleType:
    """scikit-learn's test module with our classes."""
    linear_model = ModuleType("linear_model")
    vars(linear_model).update(vars(sklearn.linear_model), SGDClassifier=SGDClassifier, SGDRegressor=SGDRegressor)
    module = executed("sklearn.linear_model.tests.test_sgd", mock.patch.object(sklearn, "linear_model", linear_model))
    assert module.linear_model is linear_model
    module.sgd_fast = COMPILED
    return module


THEIRS = _loaded()


def _without_one_class_models(test):
    """The test without the parameters that stand for one-class models, which we do not have; None if none is left."""
    if "OneClass" in inspect.getsource(test) and not hasattr(test, "pytestmark"):
        return None
    for k, mark in enumerate(getattr(test, "pytestmark", [])):
        if mark.name != "parametrize":
            continue
        names, cases = mark.args
        kept = [case for case in cases if "OneClass" not in str(case)]
        if not kept:
            return None
        test.pytestmark[k] = pytest.mark.parametrize(names, kept).mark
    return test


TESTS = {
    name: _without_one_class_models(test)
    for name, test in vars(THEIRS).items()
    if name.startswith("test_") and "oneclass" not in name and "one_class" not in name and "ocsvm" not in name
}
# Nothing of ours is run by joblib: one of its backends shows as much as three.
TESTS["test_SGDClassifier_fit_for_all_backends"].pytestmark = [pytest.mark.parametrize("backend", ["threading"]).mark]
for slow in ("test_SGDClassifier_fit_for_all_backends", "test_multi_core_gridsearch_and_early_stopping"):
    TESTS[slow] = pytest.mark.slow(TESTS[slow])
globals().update({name: test for name, test in TESTS.items() if test is not None})


@pytest.fixture(autouse=True)
def _left_out(request):
    expect_failure(request, LEFT_OUT, by_chance=ORDER)


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_exists(name):
    name, _, parameters = name.partition("[")
    test = TESTS[name]
    known = {
        getattr(case, "__name__", str(case))
        for mark in getattr(test, "pytestmark", [])
        if mark.name == "parametrize"
        for case in mark.args[1]
    }
    assert not parameters or parameters.rstrip("]") in known


@pytest.mark.parametrize("reason", sorted(set(LEFT_OUT.values())))
def test_reason_is_of_a_known_kind(reason):
    if reason not in (PRIVATE, ORDER):
        what = reason.removeprefix("a deliberate difference: ")
        assert what != reason
        assert f"**{what}**" in DIFFERENCES.read_text(encoding="utf-8")
