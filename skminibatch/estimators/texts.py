"""What the docstrings of the estimators say about parameters and attributes, each text once; see `docstrings`."""

from __future__ import annotations

from skminibatch.estimators.docstrings import entries

# Of the constructor: what all estimators share

_EVERY_ESTIMATOR = entries("""
power_t : float
    Exponent of 'invscaling'.
batch_size : int, float, $options or part
    Rows of a step: a number, a fraction of the rows strictly between 0 and 1, or all of them; 'auto', a choice by the noise
    of the gradient and stored times of a step, which `stop_reason_` explains; or a schedule, by name or as an instance such
    as ``Geometric(start=32, factor=2)``. With batches of b rows, an epoch has ``ceil(n / b)`` batches whose sizes differ by at
    most one. A normalization over the rows of a batch never meets a batch of one row.
lr_scaling : $options or None
    How an explicit rate follows the batch size b, with ``k = b / base_batch_size`` and the noise scale S of the gradient:
    'linear' multiplies it by k, 'sqrt' by the square root of k, 'adascale' by ``(1 + S / base) / (1 + S / b)``. For Adam, 'adam'
    multiplies it by k and 'adam_update' by 1, both times ``sqrt((1 + S / b) / (1 + S / base))``, which keeps the mean progress
    per row or per step; 'adam_sde' by the square root of k, with ``1 - beta`` k times as large; 'surge' by
    ``sqrt(k) (P + base) / (P + b)``, where P, measured at the start, is the batch size at which the best rate of Adam has its
    peak.
base_batch_size : int
    Batch size for which an explicit rate is meant.
sampler : $options or part
    How rows are drawn. 'shuffle': a new permutation in each epoch; 'replacement': independently; 'sequential': in the order of
    the data; 'blocks': a permutation of blocks of 64 consecutive rows (faster); 'groups': a permutation of groups; 'stratified':
    from every stratum by its share; 'neyman': by its share and the spread of its gradients; 'importance': in proportion to
    gradient norm. Weights keep the gradient unbiased. See `strata` of `fit`. Normalizations over rows need a sampler that
    gives every row the same chance.
shuffle : bool
    False is short for `sampler='sequential'`.
max_iter : int
    Maximum number of epochs.
early_stopping : bool
    Stop when the validation score no longer improves; restore the best epoch.
validation_fraction : float
    Share of the rows that `early_stopping` holds out, unless `fit` is given validation rows.
scoring : str, callable or None
    Score of the validation rows; None is the estimator's `score`.
max_time : float or None
    Time budget in seconds, checked at the end of each epoch.
average : bool or int
    Whether the average of the iterates is used for prediction; a number is the count of samples after which averaging starts.
clip_norm : float or None
    Largest Euclidean norm of the gradient of the loss of a batch; longer ones are scaled down.
class_weight : dict, 'balanced' or None
    Weight of each class; 'balanced' makes the classes count the same (in `partial_fit` by the counts so far).
device : {'auto', 'cpu', 'cuda', 'base'}
    'cpu' runs compiled kernels, 'cuda' a GPU via CuPy (without one, an error gives the reason), 'base' plain NumPy, slowly,
    for checks. 'auto' is 'cuda' for CuPy arrays and 'cpu' otherwise.
random_state : int, RandomState instance or None
    Seed of everything random. The same seed gives the same bits, whatever the number of threads.
verbose : int
    1 prints one line per epoch of `fit` and the reason of its end; 2 also one line per call of `partial_fit`.
n_features_in_ : int
    Number of features.
feature_names_in_ : ndarray of shape (n_features,)
    Names of the features, if X had any.
n_iter_ : int
    Epochs of the last fit.
t_ : int
    Samples seen, over all calls of `partial_fit`.
n_updates_ : int
    Steps made, over all calls of `partial_fit`: one for each batch, and one for an epoch that is a full step.
batch_size_ : int
    Batch size used (with a schedule: of the last step).
batch_size_choice_ : SizeChoice or None
    With `batch_size='auto'`, the record of the choice: the range of sizes in which it hardly matters, the noise scale and the
    critical batch size with intervals; see `skminibatch.model_selection.choose_batch_size`.
best_loss_ : float
    Lowest entry of `loss_curve_`.
validation_scores_ : ndarray of shape (n_epochs,) or None
    Score of the validation rows after each epoch.
best_validation_score_ : float or None
    Highest entry of `validation_scores_`.
best_epoch_ : int or None
    Epoch with the highest validation score, counting from one; with `early_stopping`, that of the parameters.
history_ : dict of ndarray
    One entry per epoch: epoch, samples, updates, rate (of the last step), batch_size, loss, penalty, validation_score,
    validation_loss (the mean loss of the validation rows, weighted as in training), gradient_norm (root mean square of those
    of the batches, of the loss), noise_scale ``tr(Sigma) / |G|^2`` (NaN where the gradient of the penalty, which batches do not
    show, may be more than a tenth of G), update_variance ``rate^2 V`` and temperature ``rate V / 2`` with the variance
    ``V = (1 / b - 1 / n) tr(Sigma)`` of the gradient of a batch (all in the coordinates of the optimizer), seconds (without
    compiling). Of a long stream some calls of `partial_fit` are kept, the best among them; ``history_["epoch"]`` has their
    numbers.
stop_reason_ : str
    Why training ended and, with `batch_size='auto'`, why this size was chosen; a sentence.
device_ : {'cpu', 'cuda', 'base'}
    Where training ran.
""")

# Of the constructor: what differs between linear models and networks

_LINEAR = entries("""
penalty : $options, part or None
    Penalty of the coefficients; intercepts are never penalised.
alpha : float
    Strength of the penalty, relative to the mean loss of a row. It does not depend on the batch size.
l1_ratio : float
    Share of the l1 part for `penalty='elasticnet'`.
epsilon : float
    Threshold of 'huber', 'epsilon_insensitive' and 'squared_epsilon_insensitive', in the unit of y.
quantile : float
    Quantile of `loss='quantile'`, strictly between 0 and 1.
fit_intercept : bool
    Whether to learn an intercept.
solver : $options or part
    The optimizer, by name or as an instance such as ``Momentum(0.99)``. 'auto' is schedule-free SGD [1]_, which predicts
    from an average of its iterates and needs no horizon. In `partial_fit`, few features are followed by Newton's method
    instead, and sparse rows by its diagonal form. In `fit`, full steps of all rows take over after the first epoch, or 'saga'
    where these gain less than the curvature says, or 'sdca' trains sparse rows from the start (and rows of many features, and
    few rows, if the loss has a kink or the penalty an l1 part), so that training converges to the optimum. With `average`,
    'auto' is plain SGD. 'saga' stores ``n_samples * (1 + n_outputs)`` numbers while it runs, and with an l2 penalty a copy of
    up to 1,024 dense features; 'sdca' ``n_samples * (2 + n_outputs)``, and a copy of dense rows.
learning_rate : $options or part
    The rate of the steps; see the user guide for what 'auto' is for each solver. 'auto' needs no tuning: the rate follows
    from the expected smoothness of a batch [2]_, and features are moved and stretched on the way, at an unchanged objective.
    With t the samples seen, counting from one: 'constant' is `eta0`, 'invscaling' ``eta0 / t ** power_t``, 'optimal'
    ``1 / (alpha (t0 + t))``, 'adaptive' `eta0` divided by 5 each time training would otherwise stop, 'cosine' half a cosine
    wave from `eta0` to 0 over `max_iter` epochs (not in `partial_fit`).
eta0 : float
    Rate of 'constant', 'invscaling', 'adaptive' and 'cosine'; None is 0.01. 'auto' and 'optimal' ignore it, so setting it
    raises an error.
tol : float or None
    Stop when what the objective has left to gain is at most `tol` times what it gained over a constant prediction, by the
    gradient and the curvature or by an estimate from its decrease; with `early_stopping`, when the score rises by less than
    `tol`. None: run `max_iter` epochs.
n_iter_no_change : int
    Checks from which a decrease is estimated, and with `early_stopping` those without improvement before training stops.
    There is one check after each epoch; without a second stage there are six in an epoch of 2,048 updates or more.
standardize : bool
    Standardise the features inside: the penalty then acts on the coefficients of standardised features. In
    `partial_fit` the statistics are running ones. Sparse features are scaled, not centred.
warm_start : bool
    Start `fit` from the coefficients of the last call.
n_jobs : int or None
    Maximum number of threads (None means 1). Results do not depend on it.
loss_curve_ : ndarray of shape (n_epochs,)
    Objective after each epoch, of the parameters used for prediction, on a fixed sample of at most 10,000 rows.
""")

_NETWORK = entries("""
hidden_layer_sizes : int or sequence of int
    Units of each hidden layer.
activation : $options, part or list
    Activation of the hidden layers, by name or as an instance such as ``LeakyReLU(0.1)``; a list has one for each.
solver : $options or part
    The optimizer. 'auto' is Adam; 'sgd' has `momentum`, as in scikit-learn; 'adamw' decays weights apart from the gradient.
alpha : float
    Strength of the penalty ``alpha |w|^2 / 2`` of the weights, relative to the mean loss of a row. It does not depend on
    the batch size: scikit-learn's alpha is ours times the rows of a batch.
learning_rate : $options or part
    Schedule of the rate, for every solver. With t the samples seen, counting from one: 'constant' is `learning_rate_init`,
    'invscaling' ``learning_rate_init / t ** power_t``, 'adaptive' is divided by 5 each time training would otherwise stop,
    'cosine' falls to 0 over `max_iter` epochs (not in `partial_fit`); 'auto' is a constant of each adaptive solver after a
    warm-up.
learning_rate_init : float
    The first rate.
momentum : float
    Momentum of 'sgd', 'momentum' and 'nesterov'.
nesterovs_momentum : bool
    Whether the momentum of 'sgd' is Nesterov's.
beta_1, beta_2 : float
    Decay of the moments of 'adam' and 'adamw'.
epsilon : float
    Number that adaptive solvers add to a root.
normalization : $options, part or None
    Normalization before each activation, by name or as an instance such as ``GhostNorm(16)`` or ``GroupNorm(4)``; 'instance'
    has to be an instance, ``InstanceNorm(n_channels=10)``.
normalize_input : bool
    Whether the input of the first layer is normalized too.
dropout : float or list of float
    Share of the hidden units that a step leaves out; a list has one for each hidden layer.
tol : float or None
    Stop when, for `n_iter_no_change` epochs in a row, the objective decreases by less than `tol` times the total decrease so
    far; with `early_stopping`, when the score rises by less than `tol`. None: run `max_iter` epochs.
n_iter_no_change : int
    Epochs without improvement before training stops.
warm_start : bool
    Start `fit` from the parameters of the last call.
n_jobs : int or None
    Maximum number of threads that share a large product of matrices (None means as many as BLAS takes). Results do not
    depend on it.
coefs_ : list of ndarray of shape (n_units, n_next_units)
    Weights of each layer, in the dtype of X.
intercepts_ : list of ndarray of shape (n_next_units,)
    Intercepts of each layer; zero where a normalization subtracts the mean of each unit.
normalizations_ : list of dict or None
    Of the input and of each layer: `gamma`, `beta`, the running `mean` and `variance` and, for 'hybrid', `alpha`.
n_layers_ : int
    Number of layers, input and output included.
n_outputs_ : int
    Number of raw outputs.
out_activation_ : str
    The function from raw outputs to predictions: 'identity', 'logistic', 'softmax' or 'exp'.
loss_ : float
    Objective of the last epoch.
loss_curve_ : ndarray of shape (n_epochs,)
    Objective of each epoch: the mean over its batches, each before its step, as in scikit-learn.
noise_estimator_ : {'rows', 'micro-batches'}
    What the noise in `history_` is estimated from: the rows of every batch or, where a normalization couples these, a few
    micro-batches of as many rows now and then; in between it is NaN.
""")

# Of the constructor: what differs between regression and classification

_REGRESSION = entries("""
loss : $options or part
    The loss, by name or as an instance such as ``Quantile(0.9)``. 'poisson' predicts the exponential of the raw output and
    needs counts, at least 0.
""")

_CLASSIFICATION = entries("""
loss : $options or part
    The loss. 'log_loss' is logistic regression: softmax for more than two classes, independent labels for multilabel y. The
    others, the regression losses included, are one-vs-rest with targets -1 and +1.
classes_ : ndarray of shape (n_classes,)
    Labels, sorted.
""")

_COEF_OF_TARGETS = entries("""
coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
    Coefficients, in the dtype of X.
intercept_ : ndarray of shape (n_outputs,)
    Intercepts.
""")

_COEF_OF_CLASSES = entries("""
coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    Coefficients, in the dtype of X.
intercept_ : ndarray of shape (1,) or (n_classes,)
    Intercepts.
""")

LINEAR_REGRESSOR = {**_COEF_OF_TARGETS, **_REGRESSION, **_EVERY_ESTIMATOR, **_LINEAR}
LINEAR_CLASSIFIER = {**_COEF_OF_CLASSES, **_CLASSIFICATION, **_EVERY_ESTIMATOR, **_LINEAR}
NETWORK_REGRESSOR = {**_REGRESSION, **_NETWORK, **_EVERY_ESTIMATOR}
NETWORK_CLASSIFIER = {**_CLASSIFICATION, **_NETWORK, **_EVERY_ESTIMATOR}

LINEAR_NOTES = """
Notes
-----
The objective is ``sum_i s_i loss_i / sum_i s_i + alpha R(coef)`` with the sample weights ``s_i`` and ``R(w) = (1 -
l1_ratio) |w|^2 / 2 + l1_ratio |w|_1``, whatever the batch size.

References
----------
.. [1] Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, "The road less scheduled", 2024, arXiv:2405.15682.
.. [2] Gower, Loizou, Qian, Sailanbayev, Shulgin and Richtarik, "SGD: general analysis and improved rates", ICML 2019,
   arXiv:1901.09401.
"""

NETWORK_NOTES = """
Notes
-----
The objective is ``sum_i s_i loss_i / sum_i s_i + alpha |w|^2 / 2`` with the sample weights ``s_i``, whatever the batch
size; intercepts and normalizations are not penalised. Initial weights are uniform, with the variance of Glorot and Bengio
(2010) or of He et al. (2015), depending on the activation; the outputs start at the best constant.
"""

# Of `fit` and `partial_fit`

_ROWS = entries("""
sample_weight : array-like of shape (n_samples,)
    Weights of the rows, at least 0; only their proportions matter. Rows of weight zero are left out.
coef_init, intercept_init : array-like
    Coefficients and intercepts to start from, in the shape of `coef_` and `intercept_`.
X_val, y_val : array-like
    Rows to score after each epoch, instead of a part of the training rows.
sample_weight_val : array-like of shape (n_validation_samples,)
    Weights of the validation rows in the score.
X : {array-like, CSR matrix} of shape (n_samples, n_features)
    Training rows. float32 and float64 are used as they are, other types become float64.
strata : array-like of shape (n_samples,)
    The stratum or group of each row, for `sampler` 'stratified', 'neyman' and 'groups'.
""")

_NEXT_ROWS = entries("""
X : {array-like, CSR matrix} of shape (n_samples, n_features)
    The next training rows.
sample_weight : array-like of shape (n_samples,)
    Weights of the rows, taken as they are, so that the chunks of a stream keep their relative weight.
strata : array-like of shape (n_samples,)
    The stratum or group of each row, as in `fit`.
""")

_TARGETS = entries("""
y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    Targets, one column or several.
""")

_LABELS = entries("""
y : array-like of shape (n_samples,) or (n_samples, n_labels)
    Labels of any type, or a matrix of 0 and 1 with a column for each of several independent labels.
""")

_NEXT_LABELS = entries("""
y : array-like of shape (n_samples,) or (n_samples, n_labels)
    Labels; not every class needs to be among them.
classes : array-like of shape (n_classes,)
    All classes that will ever come; needed in the first call.
""")

FIT_REGRESSOR = {**_ROWS, **_TARGETS}
FIT_CLASSIFIER = {**_ROWS, **_LABELS}
PARTIAL_FIT_REGRESSOR = {**_NEXT_ROWS, **_TARGETS}
PARTIAL_FIT_CLASSIFIER = {**_NEXT_ROWS, **_NEXT_LABELS}

FITTED = """
Returns
-------
self : object
    The fitted estimator.

Raises
------
ValueError
    For invalid input, and when the loss or a gradient overflows; the estimator is left as it was.
"""
