"""Networks from and to fitted multilayer perceptrons of scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from skminibatch.backends import device_of
from skminibatch.contract.kinds import declared
from skminibatch.estimators.interchange import fitted_by, with_attributes
from skminibatch.estimators.targets import ClassificationTarget, RegressionTarget
from skminibatch.layers import ACTIVATIONS

THEIR_ACTIVATIONS = {ACTIVATIONS[name]: name for name in ("identity", "logistic", "tanh", "relu")}
SHARED = (
    "learning_rate_init", "power_t", "momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "shuffle",
    "max_iter", "random_state", "warm_start",
)  # fmt: skip


def regressor_to_sklearn(ours) -> MLPRegressor:
    """A network of scikit-learn with the same output for every row."""
    loss = "poisson" if declared(ours._pointwise_loss()).link == "log" else "squared_error"
    return _network(MLPRegressor(loss=loss), ours)


def classifier_to_sklearn(ours) -> MLPClassifier:
    """A network of scikit-learn with the same probabilities."""
    if declared(ours._pointwise_loss()).link != "logit":
        raise ValueError(
            f"scikit-learn's MLPClassifier has probabilities, by 'log_loss': there is no equivalent of loss={ours.loss!r}."
        )
    labels = np.eye(len(ours.classes_), dtype=int) if ours._target.multilabel else ours.classes_
    binarizer = LabelBinarizer().fit(labels)
    return _network(MLPClassifier(), ours, classes_=np.array(ours.classes_), _label_binarizer=binarizer)


def _network(theirs, ours, **attributes):
    """Their estimator with our layers, and the parameters that both have; it can be trained on."""
    activation, coefs, intercepts = _plain_layers(ours)
    theirs.set_params(
        hidden_layer_sizes=tuple(coef.shape[1] for coef in coefs[:-1]),
        activation=activation,
        solver="sgd" if ours.solver == "sgd" else "adam",
        **{name: getattr(ours, name) for name in SHARED},
    )
    if "loss_curve_" in vars(ours):  # else it comes from scikit-learn, and no epoch was done
        # their alpha is divided by the batch size
        theirs.set_params(alpha=ours.alpha * ours.batch_size_, batch_size=ours.batch_size_)
        attributes |= {"loss_curve_": ours.loss_curve_.tolist(), "loss_": ours.loss_, "best_loss_": ours.best_loss_}
    names = ("n_layers_", "n_outputs_", "out_activation_", "t_")
    return with_attributes(
        theirs,
        ours,
        **{name: getattr(ours, name) for name in names},
        coefs_=coefs,
        intercepts_=intercepts,
        validation_scores_=None,
        best_validation_score_=None,
        _no_improvement_count=0,
        **attributes,
    )


def _plain_layers(ours) -> tuple[str, list, list]:
    """The activation of all hidden layers, and weights and intercepts that do what the normalizations did as well."""
    layers, coefs, intercepts = ours._layers.layers, list(ours.coefs_), list(ours.intercepts_)
    hidden = [type(layer.activation) for layer in layers[:-1]]
    for number, (kind, layer) in enumerate(zip(hidden, layers, strict=False), 1):
        if kind not in THEIR_ACTIVATIONS:
            raise ValueError(f"scikit-learn has no equivalent of {layer.activation!r} in hidden layer {number}.")
        if kind is not hidden[0]:
            raise ValueError(
                "scikit-learn has one activation for all hidden layers: there is no equivalent of "
                f"{layer.activation!r} in hidden layer {number} after {layers[0].activation!r} in the first."
            )
    normalizations = zip(ours._layers.normalizations, ours.normalizations_, strict=True)
    scales = [_scale_and_shift(part, numbers, number) for number, (part, numbers) in enumerate(normalizations)]
    scale, shift = scales[0]
    intercepts[0] = intercepts[0] + shift @ coefs[0] if np.ndim(shift) else intercepts[0].copy()
    coefs[0] = np.reshape(scale, (-1, 1)) * coefs[0]
    for number, (scale, shift) in enumerate(scales[1:]):
        coefs[number], intercepts[number] = coefs[number] * scale, intercepts[number] * scale + shift
    dtype = ours.coefs_[0].dtype
    name = THEIR_ACTIVATIONS[hidden[0]] if hidden else "identity"
    return name, [coef.astype(dtype) for coef in coefs], [intercept.astype(dtype) for intercept in intercepts]


def _scale_and_shift(part, numbers, number: int):
    """``scale x + shift``, what a normalization does to a unit in predictions; float64."""
    if part is None:
        return 1.0, 0.0
    affine = declared(part).affine(numbers)
    if affine is None:
        place = "before the first layer" if number == 0 else f"in hidden layer {number}"
        derived = declared(part).derived(numbers)
        learnt = " with " * bool(derived) + ", ".join(f"{name}={value[0]:.3g}" for name, value in derived.items())
        raise ValueError(
            f"scikit-learn has no equivalent of {part!r}{learnt} {place}: its statistics are those of each row."
        )
    return affine


def from_sklearn(ours, theirs):
    """Give `ours` the layers of a fitted multilayer perceptron of scikit-learn."""
    check_is_fitted(theirs, ["coefs_", "intercepts_"])
    coefs, intercepts = ([np.array(array) for array in arrays] for arrays in (theirs.coefs_, theirs.intercepts_))
    given = {"hidden_layer_sizes": tuple(coef.shape[1] for coef in coefs[:-1]), "activation": theirs.activation}
    ours.set_params(**given)
    target: ClassificationTarget | RegressionTarget
    if isinstance(theirs, MLPClassifier):
        multilabel = theirs.out_activation_ == "logistic" and theirs.n_outputs_ > 1
        target = ClassificationTarget(np.array(theirs.classes_), multilabel)
    else:
        ours.set_params(loss="poisson" if theirs.out_activation_ == "exp" else ours.loss)
        target = RegressionTarget(theirs.n_outputs_, theirs.n_outputs_ > 1)
    if (theirs.out_activation_ == "exp") != (declared(ours._pointwise_loss()).link == "log"):
        raise ValueError(f"The outputs of {theirs!r} are not those of loss={ours.loss!r}.")
    if ours.normalization is not None:
        raise ValueError(
            f"scikit-learn's networks have no normalization: normalization={ours.normalization!r} is none."
        )
    ours._validate_params()
    no_rows = np.empty((0, coefs[0].shape[0]), coefs[0].dtype)
    model = ours._model(target, no_rows, device_of(ours.device))
    theta = model.stack.flat(coefs, intercepts, [None] * len(model.stack.places))
    return fitted_by(ours, theirs, target, model, coefs[0].shape[0], theta)
