"""The class docstrings of the linear estimators, whose parameters are the same but for a few."""

_PARAMETERS = """
    penalty : {{'l2', 'l1', 'elasticnet'}} or None, default='l2'
        Penalty of the coefficients; intercepts are never penalised.
    alpha : float, default=1e-4
        Strength of the penalty, relative to the mean loss of a row. It does not depend on the batch size.
    l1_ratio : float, default=0.15
        Share of the l1 part for `penalty='elasticnet'`.
    epsilon : float, default=0.1
        Threshold of 'huber', 'epsilon_insensitive' and 'squared_epsilon_insensitive', in the unit of y.
    quantile : float, default=0.5
        Quantile of `loss='quantile'`, strictly between 0 and 1.
    fit_intercept : bool, default=True
        Whether to learn an intercept.
    solver : {{'auto', 'schedule_free', 'sgd', 'momentum', 'nesterov', 'adagrad', 'rmsprop', 'adam', 'adamw', 'saga'}} or \
part, default='auto'
        The optimizer, by name or as an instance such as ``Momentum(0.99)``. 'auto' is schedule-free SGD [1]_, which predicts
        from an average of its iterates and needs no horizon; with `average`, plain SGD. 'saga' is for `fit` to the optimum
        itself; it stores ``n_samples * (1 + n_outputs)`` numbers while it runs.
    learning_rate : {{'auto', 'constant', 'invscaling', 'optimal', 'adaptive', 'cosine'}} or part, default='auto'
        The rate of the steps; see the user guide for what 'auto' is for each solver. It needs no tuning: the rate follows
        from the expected smoothness of a batch [2]_, is lowered for batches with rows of unusual length, and features are
        moved and stretched on the way, at an unchanged objective. With t the samples seen, counting from one: 'constant' is
        `eta0`, 'invscaling' ``eta0 / t ** power_t``, 'optimal' ``1 / (alpha (t0 + t))``, 'adaptive' `eta0` divided by 5
        whenever training stalls, 'cosine' half a cosine wave from `eta0` to 0 over `max_iter` epochs (not in `partial_fit`).
    eta0 : float, default=None
        Rate of 'constant', 'invscaling', 'adaptive' and 'cosine'; None is 0.01.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    batch_size : int, float, 'full', 'auto', {{'constant', 'linear', 'geometric', 'logarithmic', 'adadamp', \
'norm_test', 'inner_product_test', 'cabs', 'noise_scale'}} or part, default=64
        Rows of a step: a number, a fraction of the rows strictly between 0 and 1, or all of them; 'auto', a choice by the noise
        of the gradient and stored times of a step, which `stop_reason_` explains; or a schedule, by name or as an instance
        such as ``Geometric(start=32, factor=2)``. An epoch of b rows a batch has ``ceil(n / b)`` batches,
        whose sizes differ by at most one.
    lr_scaling : {{'linear', 'sqrt', 'adascale', 'adam', 'adam_update', 'adam_sde', 'surge'}} or None, default=None
        How an explicit rate follows the batch size: times ``k = b / base_batch_size``, its square root, or by the noise
        scale S of the gradient: 'adascale' ``(1 + S / base) / (1 + S / b)``; for Adam, 'adam' k times and 'adam_update' once
        ``sqrt((1 + S / b) / (1 + S / base))``, which keep the mean progress a row and a step; 'adam_sde' the square root
        of k, with ``1 - beta`` k times as large; 'surge' ``sqrt(k) (P + base) / (P + b)`` with the batch size P, measured
        at the start, at which the best rate of Adam has its peak.
    base_batch_size : int, default=64
        Batch size for which an explicit rate is meant.
    sampler : {{'shuffle', 'replacement', 'sequential', 'blocks', 'groups', 'stratified', 'neyman', 'importance'}} or part, \
default='shuffle'
        How rows are drawn: a new permutation an epoch, independently, in the order of the data, a permutation of blocks of 64
        consecutive rows (faster) or of groups; from every stratum by its share or by the spread of its gradients too; or the
        more often, the larger their gradients. Weights keep the gradient unbiased. See `strata` of `fit`.
    shuffle : bool, default=True
        False is short for `sampler='sequential'`.
    max_iter : int, default=1000
        Most epochs of `fit`.
    tol : float or None, default=1e-3
        Stop when the objective, checked `n_iter_no_change` times in a row, falls more slowly than by `tol` times its decrease so
        far in an epoch; with `early_stopping`, when the score rises by less than `tol`. None: do `max_iter` epochs.
    n_iter_no_change : int, default=3
        Checks without improvement before training stops. There is one after each epoch, and six in an epoch of 2,048
        updates or more, so that large data need no further passes to find out that they are done.
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
    standardize : bool, default=False
        Standardise the features inside: the penalty then acts on the coefficients of standardised features. In
        `partial_fit` the statistics are running ones. Sparse features are scaled, not centred.
    warm_start : bool, default=False
        Start `fit` from the coefficients of the last call.
{extra}    n_jobs : int or None, default=None
        Bound of the threads of a kernel; their number changes no bit of the result. None is 1.
    device : {{'auto', 'cpu', 'cuda', 'base'}}, default='auto'
        'cpu' are compiled kernels, 'cuda' is a GPU by way of CuPy (an error that says why, where there is none), 'base' is
        plain NumPy, slow, for checks. 'auto' is 'cuda' for rows of CuPy and 'cpu' otherwise.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random. The same seed gives the same bits.
    verbose : int, default=0
        Print a line an epoch.

    Attributes
    ----------
    coef_ : {coef}
        Coefficients, in the dtype of X.
    intercept_ : ndarray of shape ({outputs},)
        Intercepts.
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
        Objective after each epoch, of what predicts, on a fixed sample of at most 10,000 rows.
    best_loss_ : float
        Lowest entry of `loss_curve_`.
    validation_scores_ : ndarray of shape (n_epochs,) or None
        Score of the validation rows after each epoch.
    best_validation_score_ : float or None
        Highest entry of `validation_scores_`.
    history_ : dict of ndarray
        One entry an epoch: epoch, samples, updates, rate (of the last step), batch_size, loss, penalty,
        validation_score, gradient_norm, noise_scale ``tr(Sigma) / |G|^2``, update_variance ``rate^2 tr(Sigma) / b`` and
        temperature ``rate tr(Sigma) / b`` (of the loss, in the coordinates of the optimizer), seconds. Of a long history,
        every second entry but the best is dropped.
    stop_reason_ : str
        Why training ended, and why 'auto' took its batch size; a sentence.
    device_ : {{'cpu', 'cuda', 'base'}}
        Where it ran.
"""

_NOTES = """
    Notes
    -----
    The objective is ``sum_i s_i loss_i / sum_i s_i + alpha R(coef)`` with the sample weights ``s_i`` and ``R(w) = (1 -
    l1_ratio) |w|^2 / 2 + l1_ratio |w|_1``, whatever the batch size.

    References
    ----------
    .. [1] Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, "The road less scheduled", 2024, arXiv:2405.15682.
    .. [2] Gower, Loizou, Qian, Sailanbayev, Shulgin and Richtarik, "SGD: general analysis and improved rates", ICML 2019,
       arXiv:1901.09401.

    Examples
    --------
{example}"""


def _docstring(summary: str, loss: str, extra: str, coef: str, outputs: str, classes: str, example: str) -> str:
    parameters = _PARAMETERS.format(extra=extra, coef=coef, outputs=outputs, classes=classes)
    head = f"{summary}\n\n    Parameters\n    ----------\n{loss}"
    return head + parameters.lstrip("\n") + _NOTES.format(example=example)


REGRESSOR = _docstring(
    summary="Linear regression by mini-batch stochastic gradient descent.",
    loss="""    loss : {'squared_error', 'huber', 'epsilon_insensitive', 'squared_epsilon_insensitive', 'poisson', 'quantile'} \
or part, default='squared_error'
        The loss; 'poisson' predicts ``exp(X coef + intercept)`` and wants counts, at least 0.
""",
    extra="",
    coef="ndarray of shape (n_features,) or (n_outputs, n_features)",
    outputs="n_outputs",
    classes="",
    example="""    >>> from sklearn.datasets import load_diabetes
    >>> from skminibatch import MiniBatchSGDRegressor
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> model = MiniBatchSGDRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """,
)
CLASSIFIER = _docstring(
    summary="Linear classification by mini-batch stochastic gradient descent.",
    loss="""    loss : {'log_loss', 'hinge', 'squared_hinge', 'modified_huber', 'perceptron', 'squared_error', 'huber', \
'epsilon_insensitive', 'squared_epsilon_insensitive', 'quantile'} or part, default='log_loss'
        The loss. 'log_loss' is logistic regression: softmax for more than two classes, independent labels for multilabel y.
        The others, the regression losses included, are one-vs-rest with targets -1 and +1.
""",
    extra="""    class_weight : dict, 'balanced' or None, default=None
        Weight of each class; 'balanced' makes the classes count the same (in `partial_fit` by the counts so far).
""",
    coef="ndarray of shape (1, n_features) or (n_classes, n_features)",
    outputs="1 or n_classes",
    classes="""    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
""",
    example="""    >>> from sklearn.datasets import load_breast_cancer
    >>> from skminibatch import MiniBatchSGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = MiniBatchSGDClassifier(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """,
)
