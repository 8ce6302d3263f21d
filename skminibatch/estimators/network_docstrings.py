"""The class docstrings of the multilayer perceptrons, whose parameters are the same but for a few."""

_PARAMETERS = """
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units of each hidden layer.
    activation : {{'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'gelu', 'silu', 'softplus'}}, part or list, \
default='relu'
        Activation of the hidden layers, by name or as an instance such as ``LeakyReLU(0.1)``; a list has one for each.
    solver : {{'auto', 'adam', 'adamw', 'sgd', 'momentum', 'nesterov', 'adagrad', 'rmsprop', 'schedule_free'}} or part, \
default='adam'
        The optimizer. 'auto' is Adam; 'sgd' has `momentum`, as in scikit-learn; 'adamw' decays weights apart from the gradient.
    alpha : float, default=1e-4
        Strength of the penalty ``alpha |w|^2 / 2`` of the weights, relative to the mean loss of a row. It does not depend on
        the batch size: scikit-learn's alpha is ours times the rows of a batch.
    batch_size : int, float, 'full', 'auto', {{'constant', 'linear', 'geometric', 'logarithmic', 'adadamp', \
'norm_test', 'inner_product_test', 'cabs', 'noise_scale'}} or part, default=200
        Rows of a step, as for the linear models: a number, a fraction of the rows, 'full', 'auto' by the noise of the gradient,
        or a schedule. An epoch of b rows a batch has ``ceil(n / b)`` batches, whose sizes differ by at most one; no batch of one
        row reaches a normalization over rows.
    lr_scaling : {{'linear', 'sqrt', 'adascale', 'adam', 'adam_update', 'adam_sde', 'surge'}} or None, default=None
        How the rate follows the batch size, as for the linear models.
    base_batch_size : int, default=200
        Batch size for which `learning_rate_init` is meant.
    learning_rate : {{'constant', 'invscaling', 'adaptive', 'cosine', 'auto'}} or part, default='constant'
        Schedule of the rate, for every solver. With t the samples seen, counting from one: 'invscaling' is
        ``learning_rate_init / t ** power_t``, 'adaptive' is divided by 5 whenever training stalls, 'cosine' falls to 0 over
        `max_iter` epochs (not in `partial_fit`); 'auto' is a constant of each adaptive solver after a warm-up.
    learning_rate_init : float, default=1e-3
        The first rate.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    momentum : float, default=0.9
        Of 'sgd', 'momentum' and 'nesterov'.
    nesterovs_momentum : bool, default=True
        Whether the momentum of 'sgd' is Nesterov's.
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay of the moments of 'adam' and 'adamw'.
    epsilon : float, default=1e-8
        What adaptive solvers add to a root.
    normalization : {{'batch', 'ghost', 'layer', 'instance', 'group', 'hybrid'}}, part or None, default=None
        Normalization before each activation, by name or as an instance such as ``GhostNorm(16)`` or ``GroupNorm(4)``; 'instance'
        has to be an instance, ``InstanceNorm(n_channels=10)``.
    normalize_input : bool, default=False
        Whether one more stands before the first layer.
    dropout : float or list of float, default=0.0
        Share of the hidden units that a step leaves out; a list has one for each hidden layer.
    sampler : {{'shuffle', 'replacement', 'sequential', 'blocks', 'groups', 'stratified', 'neyman', 'importance'}} or part, \
default='shuffle'
        How rows are drawn, as for the linear models; normalizations over rows need rows of equal chance.
    shuffle : bool, default=True
        False is short for `sampler='sequential'`.
    max_iter : int, default=200
        Most epochs of `fit`.
    tol : float or None, default=1e-4
        Stop when, `n_iter_no_change` epochs in a row, the loss falls by less than `tol` times its decrease so far; with
        `early_stopping`, when the score rises by less than `tol`. None: do `max_iter` epochs.
    n_iter_no_change : int, default=10
        Epochs without improvement before training stops.
    early_stopping : bool, default=False
        Stop by the score on validation rows, and restore the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows that `early_stopping` holds out, unless `fit` is given validation rows.
    scoring : str, callable or None, default=None
        Score of the validation rows; None is the estimator's `score`.
    max_time : float or None, default=None
        Seconds after which `fit` ends at the next end of an epoch.
    average : bool or int, default=False
        Whether the average of the iterates predicts; a number is the count of samples after which averaging starts.
    clip_norm : float or None, default=None
        Largest Euclidean norm of the gradient of the loss of a batch; longer ones are scaled down.
    warm_start : bool, default=False
        Start `fit` from the parameters of the last call.
{extra}    n_jobs : int or None, default=None
        Threads that share a large product of matrices; their number changes no bit of the result. None: as many as BLAS takes.
    device : {{'auto', 'cpu', 'cuda', 'base'}}, default='auto'
        'cpu' are compiled kernels, 'cuda' is a GPU by way of CuPy (an error that says why, where there is none), 'base' is
        plain NumPy, for checks. 'auto' is 'cuda' for rows of CuPy and 'cpu' otherwise.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random. The same seed gives the same bits, whatever the number of threads.
    verbose : int, default=0
        Print a line an epoch.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_units, n_next_units)
        Weights of each layer, in the dtype of X.
    intercepts_ : list of ndarray of shape (n_next_units,)
        Intercepts of each layer; zero where a normalization takes the mean of each unit away.
    normalizations_ : list of dict or None
        Of the input and of each layer: `gamma`, `beta`, the running `mean` and `variance` and, for 'hybrid', `alpha`.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of raw outputs.
    out_activation_ : str
        What turns raw outputs into predictions: 'identity', 'logistic', 'softmax' or 'exp'.
    loss_ : float
        Objective of the last epoch.
{classes}    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had any.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Samples seen, over all calls of `partial_fit`.
    n_updates_ : int
        Steps done.
    batch_size_ : int
        Rows of a step, as used; of the last one, where a schedule changed them.
    loss_curve_ : ndarray of shape (n_epochs,)
        Objective of each epoch: the mean over its batches, each before its step, as in scikit-learn.
    best_loss_ : float
        Lowest entry of `loss_curve_`.
    validation_scores_ : ndarray of shape (n_epochs,) or None
        Score of the validation rows after each epoch.
    best_validation_score_ : float or None
        Highest entry of `validation_scores_`.
    history_ : dict of ndarray
        One entry an epoch, as for the linear models.
    noise_estimator_ : {{'rows', 'micro-batches'}}
        What the noise in `history_` was estimated from: the rows of every batch or, where a normalization couples these, now
        and then micro-batches of as many rows; in between it is NaN.
    stop_reason_ : str
        Why training ended, and why 'auto' took its batch size; a sentence.
    device_ : {{'cpu', 'cuda', 'base'}}
        Where it ran.

    Notes
    -----
    The objective is ``sum_i s_i loss_i / sum_i s_i + alpha |w|^2 / 2`` with the sample weights ``s_i``, whatever the batch
    size; intercepts and normalizations are not penalised. Initial weights are uniform, with the variance of Glorot and Bengio
    (2010) or of He et al. (2015) as suits the activation; the outputs start at the best constant.

    Examples
    --------
{example}"""


def _docstring(summary: str, loss: str, extra: str, classes: str, example: str) -> str:
    parameters = _PARAMETERS.format(extra=extra, classes=classes, example=example)
    return f"{summary}\n\n    Parameters\n    ----------\n{loss}" + parameters.lstrip("\n")


REGRESSOR = _docstring(
    summary="Regression by a multilayer perceptron.",
    loss="""    loss : {'squared_error', 'huber', 'epsilon_insensitive', 'squared_epsilon_insensitive', 'poisson', 'quantile'} \
or part, default='squared_error'
        The loss, by name or as an instance such as ``Quantile(0.9)``; 'poisson' predicts ``exp(raw)`` and wants counts.
""",
    extra="",
    classes="",
    example="""    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchMLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MiniBatchMLPRegressor(learning_rate_init=0.01, max_iter=100, tol=None, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """,
)
CLASSIFIER = _docstring(
    summary="Classification by a multilayer perceptron.",
    loss="""    loss : {'log_loss', 'hinge', 'squared_hinge', 'modified_huber', 'perceptron', 'squared_error', 'huber', \
'epsilon_insensitive', 'squared_epsilon_insensitive', 'quantile'} or part, default='log_loss'
        The loss. 'log_loss' is softmax for more than two classes, independent labels for multilabel y. The others, the
        regression losses included, are one-vs-rest with targets -1 and +1.
""",
    extra="""    class_weight : dict, 'balanced' or None, default=None
        Weight of each class; 'balanced' makes the classes count the same (in `partial_fit` by the counts so far).
""",
    classes="""    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
""",
    example="""    >>> from sklearn.datasets import load_digits
    >>> from skminibatch import MiniBatchMLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MiniBatchMLPClassifier(normalization="batch", max_iter=20, tol=None, random_state=0).fit(X / 16, y)
    >>> bool(model.score(X / 16, y) > 0.95)
    True
    """,
)
