"""Wrong input: an error that names the parameter or the row, and an estimator that stays as it was."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.utils._param_validation import InvalidParameterError

from skminibatch import MiniBatchSGDClassifier, MiniBatchSGDRegressor
from skminibatch.layers import ELU, GhostNorm, GroupNorm, HybridNorm, InstanceNorm
from skminibatch.losses import LOSSES, Huber, Quantile
from skminibatch.optimizers import SAGA, Adam, Momentum
from skminibatch.samplers import Blocks
from skminibatch.schedules import Constant
from tests.families import classifiers, constant, learnt, linear_models, networks, regressors

QUICK = {"device": "base", "random_state": 0, "max_iter": 2, "tol": None}


def snapshot(estimator) -> tuple:
    """Everything that an estimator knows: which objects, and what is in them."""
    names = {name: id(value) for name, value in vars(estimator).items()}
    return names, pickle.dumps(vars(estimator))


def call(estimator, method, X, y, **metadata):
    if method == "partial_fit" and is_classifier(estimator):
        metadata = {"classes": [0, 1], **metadata}
    return getattr(estimator, method)(X, y, **metadata)


@pytest.fixture(params=["new", "fitted", "partially fitted"])
def estimator(request, estimator_class, problem):
    """An estimator before and after a first success."""
    estimator = estimator_class(**QUICK)
    if request.param == "fitted":
        estimator.fit(*problem)
    if request.param == "partially fitted":
        call(estimator, "partial_fit", *problem)
    return estimator


def assert_refused(estimator, method, match, *arguments, error=ValueError, **metadata):
    before = snapshot(estimator)
    with pytest.raises(error, match=match):
        call(estimator, method, *arguments, **metadata)
    assert snapshot(estimator) == before


def with_value(array, place, value):
    array = np.array(array, float)
    array[place] = value
    return array


BAD_X = {
    "NaN": (lambda X: with_value(X, (7, 1), np.nan), r"Input X contains NaN"),
    "infinity": (lambda X: with_value(X, (7, 1), -np.inf), r"Input X contains infinity"),
    "too large for float32": (
        lambda X: with_value(X, (7, 1), np.inf).astype(np.float32),
        r"Input X contains infinity or a value too large for dtype\('float32'\)",
    ),
    "NaN, sparse": (lambda X: sparse.csr_matrix(with_value(X, (7, 1), np.nan)), r"Input X contains NaN"),
    "one dimension": (lambda X: X[:, 0], r"Expected 2D array, got 1D array instead"),
    "three dimensions": (lambda X: X[:, :, None], r"Found array with dim 3"),
    "no rows": (lambda X: X[:0], r"Found array with 0 sample\(s\) \(shape=\(0, 5\)\)"),
    "no features": (lambda X: X[:, :0], r"Found array with 0 feature\(s\) \(shape=\(240, 0\)\)"),
    "fewer rows than y": (lambda X: X[:-1], r"inconsistent numbers of samples: \[239, 240\]"),
    "text": (
        lambda X: np.full(X.shape, "text"),
        r"could not convert string to float|dtype='numeric' is not compatible",
    ),
    "complex": (lambda X: X + 1j, r"Complex data not supported"),
    "None": (lambda X: None, r"Expected 2D array, got scalar array instead"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", BAD_X)
def test_x(case, method, estimator, problem):
    change, match = BAD_X[case]
    X, y = problem
    y = y[:0] if case == "no rows" else y
    assert_refused(estimator, method, match, change(X), y)


@pytest.mark.parametrize("method", ["predict", "decision_function", "predict_proba", "score"])
@pytest.mark.parametrize("case", ["NaN", "infinity", "one dimension", "no rows", "text"])
def test_x_of_a_prediction(case, method, estimator_class, problem):
    change, match = BAD_X[case]
    X, y = problem
    estimator = estimator_class(**QUICK).fit(X, y)
    if not hasattr(estimator, method):
        return
    before = snapshot(estimator)
    arguments = (y[:0] if case == "no rows" else y,) if method == "score" else ()
    with pytest.raises(ValueError, match=match):
        getattr(estimator, method)(change(X), *arguments)
    with pytest.raises(ValueError, match=r"X has 3 features, but .* is expecting 5 features as input"):
        getattr(estimator, method)(X[:, :3], *((y,) if method == "score" else ()))
    assert snapshot(estimator) == before


BAD_WEIGHTS = {
    "negative": (
        lambda n: with_value(np.ones(n), 4, -1.0),
        r"Negative values in data passed to `sample_weight`",
    ),
    "NaN": (lambda n: with_value(np.ones(n), 4, np.nan), r"Input sample_weight contains NaN"),
    "infinity": (lambda n: with_value(np.ones(n), 4, np.inf), r"Input sample_weight contains infinity"),
    "too few": (lambda n: np.ones(n - 1), r"sample_weight.shape == \(239,\), expected \(240,\)"),
    "two dimensions": (lambda n: np.ones((n, 2)), r"Sample weights must be 1D array or scalar"),
    "text": (lambda n: ["a"] * n, r"could not convert string to float"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_sample_weight(case, method, estimator, problem):
    make, match = BAD_WEIGHTS[case]
    assert_refused(estimator, method, match, *problem, sample_weight=make(240))


def test_no_row_that_counts(estimator, problem):
    zeros = np.zeros(240)
    assert_refused(estimator, "fit", r"all rows have weight zero", *problem, sample_weight=zeros)
    if hasattr(estimator, "n_iter_"):
        before = learnt(estimator)
        call(estimator, "partial_fit", *problem, sample_weight=zeros)
        np.testing.assert_array_equal(learnt(estimator), before)
    else:
        assert_refused(estimator, "partial_fit", r"All sample weights are zero", *problem, sample_weight=zeros)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("storage", ["new", "fitted"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda y: with_value(y, 3, np.nan), r"Input y contains NaN"),
        (lambda y: with_value(y, 3, np.inf), r"Input y contains infinity"),
        (lambda y: np.array(["a"] * 240), r"could not convert string to float"),
        (lambda y: None, r"requires y to be passed"),
        (lambda y: y[:, None, None], r"dim 3|expected <= 2"),
        (lambda y: y.astype(object)[:-1], r"inconsistent numbers of samples"),
    ],
    ids=["NaN", "infinity", "text", "None", "three dimensions", "too few"],
)
@regressors
def test_y_of_a_regressor(change, match, method, storage, estimator_class, regression):
    regressor = estimator_class(**QUICK)
    if storage == "fitted":
        regressor.fit(*regression)
    assert_refused(regressor, method, match, regression.X, change(regression.y))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("storage", ["new", "fitted"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda y: y + 0.5 * np.arange(240), r"Unknown label type: continuous"),
        (lambda y: with_value(y, 3, np.nan), r"Input y contains NaN"),
        (lambda y: None, r"requires y to be passed"),
        (lambda y: y[:-2], r"inconsistent numbers of samples"),
        (lambda y: np.column_stack([y, y + 2]), r"Unknown label type|multiclass-multioutput|shape"),
    ],
    ids=["continuous", "NaN", "None", "too few", "several labels of several classes"],
)
@classifiers
def test_y_of_a_classifier(change, match, method, storage, estimator_class, binary):
    classifier = estimator_class(**QUICK)
    if storage == "fitted":
        classifier.fit(*binary)
    assert_refused(classifier, method, match, binary.X, change(binary.y))


@pytest.mark.parametrize("kind", [int, float, str])
def test_more_classes_than_half_the_rows_get_a_warning(kind, rng):
    X, y = rng.standard_normal((40, 2)), np.arange(40) // 1.5
    with pytest.warns(UserWarning, match=r"number of unique classes is greater than 50%"):
        MiniBatchSGDClassifier(max_iter=1, tol=None).fit(X, y.astype(int).astype(kind))


@classifiers
def test_labels(estimator_class, binary):
    X, y = binary
    classifier = estimator_class(**QUICK)
    one = np.ones(240)
    assert_refused(classifier, "fit", r"The number of classes has to be greater than one; got 1 class", X, one)
    assert_refused(classifier, "partial_fit", r"classes must be passed on the first call", X, y, classes=None)
    assert_refused(classifier, "partial_fit", r"label.*2.*row 5.*\[0, 1\]", X, with_value(y, 5, 2).astype(int))
    assert_refused(classifier, "partial_fit", r"number of classes has to be greater than one", X, y, classes=[0])
    classifier.partial_fit(X, y, classes=[0, 1])
    assert_refused(classifier, "partial_fit", r"label.*2.*row 5", X, with_value(y, 5, 2).astype(int))
    assert_refused(classifier, "partial_fit", r"is not the same as on last call", X, y, classes=[0, 2])
    classifier.fit(X, np.array(["no", "yes"])[y])
    assert_refused(classifier, "partial_fit", r"label.*'maybe'.*row 1", X[:2], ["no", "maybe"], classes=None)


@regressors
def test_targets_that_change_their_shape(estimator_class, regression):
    X, y = regression
    one, two = (estimator_class(**QUICK).fit(X, target) for target in (y, np.column_stack([y, y])))
    assert_refused(one, "partial_fit", r"y has the shape \(240, 2\), but .* one dimension", X, np.column_stack([y, y]))
    assert_refused(two, "partial_fit", r"y has the shape \(240,\), but .* 2 columns", X, y)
    assert_refused(two, "partial_fit", r"y has the shape \(240, 3\), but .* 2 columns", X, np.column_stack([y, y, y]))


@classifiers
def test_labels_that_change_their_shape(estimator_class, several):
    X, y = several
    labels = estimator_class(**QUICK).fit(X, np.eye(3, dtype=int)[y])
    assert_refused(
        labels,
        "partial_fit",
        r"y has the shape \(240, 2\), but there are 3 labels",
        X,
        np.eye(3)[y][:, :2],
        classes=None,
    )
    assert_refused(labels, "partial_fit", r"y has the shape \(240,\), but there are 3 labels", X, y, classes=None)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("fitted", [False, True])
@regressors
def test_a_negative_count(method, fitted, estimator_class, counts):
    """The row is named."""
    X, y = counts
    regressor = estimator_class(loss="poisson", **QUICK)
    if fitted:
        regressor.fit(X, y)
    match = r"out of the valid range of the loss 'poisson': row 11 of y is -1"
    assert_refused(regressor, method, match, X, with_value(y, 11, -1.0))
    match = r"out of the valid range of the loss 'poisson': row 11 of y"
    regressor = estimator_class(loss="poisson", **QUICK)
    assert_refused(regressor, method, match, X, with_value(np.column_stack([y, y]), (11, 1), -1.0))


PARAMETERS = {
    "loss": ["nothing", 3, None, Huber(-1.0), Quantile(1.0)],
    "penalty": ["l3", 1.0],
    "alpha": [-1.0, "auto", np.nan],
    "l1_ratio": [-0.1, 1.1],
    "epsilon": [-0.1],
    "quantile": [0.0, 1.0],
    "fit_intercept": ["yes", 2],
    "solver": ["lbfgs", 1, Momentum(1.5), Momentum("a"), Adam(beta_1=-0.1)],
    "hidden_layer_sizes": [0, -1, 2.5, "ten", (10, 0), [10, 2.5], [[10, 10]]],
    "activation": ["step", 1, None, ELU(0.0), ["relu", "relu"], ["step"], [1], []],
    "learning_rate": ["fast", 0.1, Constant(0.0)],
    "eta0": [0.0, -1.0],
    "learning_rate_init": [0.0, -1.0, None],
    "power_t": ["a"],
    "momentum": [-0.1, 1.0],
    "nesterovs_momentum": ["yes"],
    "beta_1": [-0.1, 1.0],
    "beta_2": [-0.1, 1.0],
    "normalization": ["weight", "instance", 3, GhostNorm(1), GroupNorm(0), HybridNorm(alpha=1.0)],
    "normalize_input": ["yes", True],
    "dropout": [1.0, -0.1, "half", [0.1, 0.1], [1.0], ["half"], [None]],
    "batch_size": [0, -1, 0.0, 1.0, 1.5, "half", None],
    "lr_scaling": ["cubic"],
    "base_batch_size": [0],
    "sampler": ["random", 1, Blocks(0)],
    "shuffle": ["yes"],
    "max_iter": [0, 1.5],
    "tol": [-1.0, "a"],
    "n_iter_no_change": [0],
    "early_stopping": ["yes"],
    "validation_fraction": [0.0, 1.0],
    "scoring": ["nothing", 1],
    "max_time": [0.0, -1],
    "average": [-1, 0.5],
    "clip_norm": [0.0, -1.0],
    "standardize": ["yes"],
    "warm_start": ["yes"],
    "n_jobs": ["all", 0.5],
    "device": ["tpu"],
    "random_state": ["seed", -1],
    "verbose": ["yes"],
    "class_weight": ["equal", 1],
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name, estimator_class, problem):
    """Every parameter of the constructor has values that are refused, by its name."""
    if name not in estimator_class().get_params():
        return
    X, y = problem
    for value in PARAMETERS[name]:
        for method in ("fit", "partial_fit"):
            if name == "scoring" and method == "partial_fit":
                continue  # not used there
            for fitted in (False, True):
                estimator = estimator_class(**QUICK)
                if fitted:
                    call(estimator, method, X, y)
                estimator.set_params(**{name: value})
                if name == "scoring":
                    estimator.set_params(early_stopping=True)
                match = name if name != "random_state" or isinstance(value, str) else "random_state|seed|Seed"
                assert_refused(estimator, method, match, X, y)


@pytest.mark.parametrize("name", LOSSES)
@regressors
def test_losses_of_regression(name, estimator_class, regression):
    regressor = estimator_class(loss=name, **QUICK)
    if LOSSES[name].task == "regression":
        regressor.fit(regression.X, np.abs(regression.y))
    else:
        assert_refused(regressor, "fit", f"The 'loss' parameter of {estimator_class.__name__}.*{name!r}", *regression)


@pytest.mark.parametrize("name", LOSSES)
@classifiers
def test_losses_of_classification(name, estimator_class, binary):
    """With targets -1 and +1, any but that of counts."""
    classifier = estimator_class(loss=name, **QUICK)
    if name == "poisson":
        assert_refused(classifier, "fit", f"The 'loss' parameter of {estimator_class.__name__}.*'poisson'", *binary)
    else:
        classifier.fit(*binary)


def test_every_parameter_is_tried(estimator_class):
    assert set(estimator_class().get_params()) <= set(PARAMETERS)


@pytest.mark.parametrize(
    ("estimator", "method", "match"),
    [
        (MiniBatchSGDRegressor(penalty="elasticnet", l1_ratio=None), "fit", "l1_ratio must be set"),
        (
            MiniBatchSGDRegressor(average=True, solver="schedule_free"),
            "fit",
            "average=True cannot be combined with solver",
        ),
        (
            MiniBatchSGDRegressor(shuffle=False, sampler="blocks"),
            "fit",
            "shuffle=False contradicts sampler='blocks'",
        ),
        (MiniBatchSGDRegressor(eta0=0.1), "fit", "eta0=0.1 has no effect with learning_rate='auto'"),
        (
            MiniBatchSGDRegressor(lr_scaling="linear"),
            "fit",
            "lr_scaling='linear' needs an explicit learning rate",
        ),
        (
            MiniBatchSGDRegressor(early_stopping=True),
            "partial_fit",
            "early_stopping should be False with partial_fit",
        ),
        (
            MiniBatchSGDClassifier(early_stopping=True),
            "partial_fit",
            "early_stopping should be False with partial_fit",
        ),
        (MiniBatchSGDClassifier(class_weight={0: 1.0, 7: 2.0}), "fit", "class"),
        (MiniBatchSGDRegressor(learning_rate="cosine"), "partial_fit", "not supported by partial_fit"),
    ],
    ids=str,
)
def test_contradictions(estimator, method, match, binary):
    estimator = clone(estimator).set_params(device="base")
    X, y = binary
    assert_refused(estimator, method, match, X, y)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"normalize_input": True}, "normalize_input=True has no effect with normalization=None"),
        ({"learning_rate": "auto", "solver": "sgd"}, "learning_rate='auto' needs a solver whose rate"),
        ({"learning_rate": "optimal"}, "The 'learning_rate' parameter of MiniBatchMLP"),
        ({"solver": "saga"}, "The 'solver' parameter of MiniBatchMLP"),
        ({"solver": SAGA()}, "solver='saga' stores a residual for each row and output, which needs a linear model"),
        ({"solver": Momentum(0.5), "momentum": 0.7}, "momentum=0.7 has no effect with solver=Momentum"),
        (
            {"learning_rate": "auto", "learning_rate_init": 0.1},
            "learning_rate_init=0.1 has no effect with learning_rate='auto'",
        ),
        ({"learning_rate": Constant(0.1), "learning_rate_init": 0.2}, "learning_rate_init=0.2 has no effect with"),
        ({"solver": "schedule_free", "average": True}, "average=True cannot be combined with solver"),
        ({"activation": ["relu", "tanh"]}, "activation has 2 entries, but hidden_layer_sizes has 1 layers"),
        ({"dropout": [0.1, 0.1]}, "dropout has 2 entries, but hidden_layer_sizes has 1 layers"),
        (
            {"hidden_layer_sizes": (4, 4), "activation": ["relu", "step"]},
            r"'activation\[1\]' parameter of MiniBatchMLP",
        ),
        ({"hidden_layer_sizes": (4, 4), "activation": ["relu", ELU(0.0)]}, r"ELU in the 'activation\[1\]' parameter"),
        ({"hidden_layer_sizes": (4, 4), "dropout": [0.1, 1.0]}, r"'dropout\[1\]' parameter of MiniBatchMLP"),
        ({"normalization": "instance"}, r"use normalization=InstanceNorm\(n_channels=...\)"),
        (
            {"normalization": InstanceNorm(7)},
            r"InstanceNorm\(n_channels=7\) needs a multiple of n_channels units .* got 100",
        ),
        ({"normalization": InstanceNorm(100)}, r"leaves one position in a channel"),
        ({"normalization": GroupNorm(7)}, r"GroupNorm\(n_groups=7\) needs a multiple of n_groups units .* got 100"),
        ({"normalization": "batch", "batch_size": 1}, "batches of 2 rows at least: .* Got batch_size=1"),
    ],
    ids=str,
)
@networks
def test_contradictions_of_networks(parameters, match, method, estimator_class, problem):
    assert_refused(estimator_class(**{**QUICK, **parameters}), method, match, *problem)


@networks
def test_one_row_is_no_batch(estimator_class):
    for normalization in ("batch", "ghost", "hybrid"):
        estimator = estimator_class(normalization=normalization, **QUICK)
        assert_refused(estimator, "partial_fit", "rows of a batch .* Got n_samples=1", [[1.0, 2.0]], [1])
    X = sparse.csr_matrix(np.eye(4))
    estimator = estimator_class(normalization="batch", normalize_input=True, **QUICK)
    assert_refused(estimator, "fit", "normalize_input=True would make sparse data dense", X, [0, 1, 0, 1])


@networks
@pytest.mark.parametrize("change", [{"hidden_layer_sizes": (3,)}, {"normalization": "batch"}], ids=str)
def test_going_on_with_other_layers(change, estimator_class, problem):
    """Another activation or another dropout are other functions of the same parameters."""
    estimator = estimator_class(hidden_layer_sizes=4, warm_start=True, **QUICK).fit(*problem)
    estimator.set_params(activation="tanh", dropout=0.5).fit(*problem).partial_fit(*problem).set_params(**change)
    for method in ("fit", "partial_fit"):
        match = f"{'warm_start' if method == 'fit' else method} goes on with the layers of the last call"
        assert_refused(estimator, method, match, *problem)
    assert estimator.set_params(warm_start=False).fit(*problem).n_iter_ == 2


@pytest.mark.parametrize(
    ("start", "match"),
    [
        ({"coef_init": np.ones(4)}, r"Provided coef_init does not match dataset"),
        ({"coef_init": np.ones((2, 5))}, r"Provided coef_init does not match dataset"),
        ({"coef_init": np.full(5, np.nan)}, r"coef_init contains NaN"),
        ({"intercept_init": np.ones(2)}, r"Provided intercept_init does not match dataset"),
        ({"intercept_init": np.inf}, r"intercept_init contains infinity"),
    ],
    ids=lambda case: ", ".join(case) if isinstance(case, dict) else "",
)
@linear_models
def test_where_to_start(start, match, estimator, problem):
    assert_refused(estimator, "fit", match, *problem, **start)


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"X_val": np.ones((4, 5))}, r"X_val and y_val must be given together"),
        ({"y_val": np.ones(4)}, r"X_val and y_val must be given together"),
        ({"sample_weight_val": np.ones(4)}, r"sample_weight_val only with them"),
        (
            {"X_val": np.ones((4, 3)), "y_val": [0, 1, 0, 1]},
            r"X has 3 features, but .* is expecting 5 features",
        ),
        ({"X_val": np.ones((4, 5)), "y_val": [0, 1, 0]}, r"inconsistent numbers of samples"),
        ({"X_val": np.full((4, 5), np.nan), "y_val": [0, 1, 0, 1]}, r"Input X contains NaN"),
        (
            {"X_val": np.ones((4, 5)), "y_val": [0, 1, 0, 1], "sample_weight_val": [1, 1, 1, -1]},
            r"Negative values in data passed to `sample_weight",
        ),
    ],
    ids=lambda case: ", ".join(case) if isinstance(case, dict) else "",
)
def test_metadata_of_fit(metadata, match, estimator, problem):
    assert_refused(estimator, "fit", match, *problem, **metadata)


@classifiers
def test_a_label_of_the_validation_set_that_training_lacks(estimator_class, binary):
    X, y = binary
    match = r"label.*9.*row 1"
    assert_refused(estimator_class(**QUICK), "fit", match, X, y, X_val=X[:3], y_val=[0, 9, 1])


def test_predict_before_fit(estimator_class, problem):
    from sklearn.exceptions import NotFittedError

    estimator = estimator_class()
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        if hasattr(estimator, method):
            with pytest.raises(NotFittedError, match="is not fitted yet"):
                getattr(estimator, method)(problem.X)
    for method in ("sparsify", "densify", "as_sklearn"):
        if hasattr(estimator, method):
            with pytest.raises(NotFittedError, match="is not fitted yet"):
                getattr(estimator, method)()


def test_divergence_is_loud(estimator, problem):
    """An error that names the epoch, the rate and the largest feature; the estimator stays as it was."""
    X, y = problem
    estimator.set_params(loss="squared_error", solver="sgd", max_iter=3, **constant(estimator, 1e150))
    huge = np.array(X)
    huge[:, 3] *= 1e6
    match = r"(?s)[Ff]loating-point.*epoch #1.*1e\+150.*Largest features: 3 \(up to"
    assert_refused(estimator, "fit", match, huge, y)
    assert_refused(estimator, "partial_fit", match.replace("#1", r"#\d"), huge, y)


@regressors
def test_names_of_features_are_in_the_message_of_a_divergence(estimator_class, regression):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(regression.X, columns=["age", "mass", "size", "rate", "cost"])
    X["mass"] *= 1e9
    regressor = estimator_class(solver="sgd", device="base", **constant(estimator_class, 1.0))
    with pytest.raises(ValueError, match=r"Largest features: mass \(up to"):
        regressor.fit(X, regression.y)


def test_wrong_names_of_parameters_are_scikit_learns_error(estimator_class):
    with pytest.raises(ValueError, match="Invalid parameter 'learning_rates' for estimator"):
        estimator_class().set_params(learning_rates=1)
    with pytest.raises(InvalidParameterError, match="The 'alpha' parameter of MiniBatch"):
        estimator_class(alpha=-1).fit([[1.0], [2.0]], [0, 1])
