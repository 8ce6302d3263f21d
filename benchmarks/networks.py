"""A step of a multilayer perceptron against scikit-learn's MLPClassifier and PyTorch, and what a normalization adds."""

import functools
import itertools
import warnings

import numpy as np
import peers
from report import Result, Table
from sklearn.neural_network import MLPClassifier
from smoke import sized
from timing import Epoch, alternate, number

from skminibatch import MiniBatchMLPClassifier

NEEDS_DATA = False
N_CLASSES = 10
SHAPES = sized(
    {(64, (100,)): {32: 6_400, 2048: 20_480}, (784, (256, 128)): {32: 1_600, 2048: 4_096}},
    {(6, (5,)): {32: 64}},
)
NORMALIZATIONS = sized(["batch", "ghost", "layer", "group", "hybrid"], ["batch"])
SECONDS = 0.2  # of a measurement
TO_REACH = {
    (64, 32, "scikit-learn"): 5.0,
    (64, 32, "PyTorch"): 8.0,
    (64, 2048, "scikit-learn"): 1.5,
    (64, 2048, "PyTorch"): 1.0,
    (784, 32, "scikit-learn"): 1.8,
    (784, 2048, "scikit-learn"): 1.2,
}
WITH_BATCH_NORMALIZATION = 1.4
COLUMNS = ["network", "dtype", "batch", "peer", "step, ours (us)", "step, peer (us)", "times faster", "to reach"]


def data(n_features, n_samples, dtype):
    """Rows without a signal: only the time of a step is asked for."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_samples, n_features)).astype(dtype), rng.integers(0, N_CLASSES, n_samples)


def ours(X, y, hidden, batch_size, normalization, max_iter):
    MiniBatchMLPClassifier(
        hidden_layer_sizes=hidden,
        batch_size=batch_size,
        normalization=normalization,
        max_iter=max_iter,
        tol=None,
        random_state=0,
    ).fit(X, y)


def sklearn_mlp(X, y, hidden, batch_size, max_iter):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it never converges within so few epochs
        MLPClassifier(
            hidden, batch_size=batch_size, max_iter=max_iter, tol=0, n_iter_no_change=max_iter + 1, random_state=0
        ).fit(X, y)


def torch_mlp(X, y, hidden, batch_size):
    """A callable fit(n_epochs) of PyTorch: linear layers, ReLU, Adam and the cross-entropy, with as many threads as it takes."""
    import torch

    X, target = torch.from_numpy(X), torch.from_numpy(y)
    widths = [X.shape[1], *hidden]

    def fit(n_epochs):
        layers = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [torch.nn.Linear(n_in, n_out, dtype=X.dtype), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], N_CLASSES, dtype=X.dtype))
        optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-4)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(X)).split(batch_size):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(X[rows]), target[rows]).backward()
                optimizer.step()

    return fit


def name_of(n_features, hidden):
    return "-".join(map(str, (n_features, *hidden, N_CLASSES)))


def against_peers(context, records):
    """A table: each network and batch size against each peer."""
    table = Table(
        "Adam, ReLU, defaults otherwise",
        COLUMNS,
        note="PyTorch gathers a batch from a tensor in memory by a random permutation, without a DataLoader. All use the "
        "threads that they take by themselves.",
    )
    for dtype in (np.float32,):
        for (n_features, hidden), sizes in SHAPES.items():
            for batch_size, n_samples in sizes.items():
                X, y = data(n_features, n_samples, dtype)
                found = {"scikit-learn": functools.partial(sklearn_mlp, X, y, hidden, batch_size)}
                if peers.available("torch"):
                    found["PyTorch"] = torch_mlp(X, y, hidden, batch_size)
                for peer, fit in found.items():
                    mine = Epoch(functools.partial(ours, X, y, hidden, batch_size, None), SECONDS)
                    pairs = alternate(Epoch(fit, SECONDS), mine, context.repeats)
                    add(table, records, pairs, n_features, hidden, dtype, batch_size, n_samples, peer)
    return table


def add(table, records, pairs, n_features, hidden, dtype, batch_size, n_samples, peer):
    """A row of the table and its record."""
    steps, kind = -(-n_samples // batch_size), np.dtype(dtype).name
    times = [number(1e6 * seconds / steps) for seconds in (pairs.ours_median, pairs.peer_median)]
    goal = TO_REACH.get((n_features, batch_size, peer), "")
    network = name_of(n_features, hidden)
    table.rows.append([network, kind, batch_size, peer, *times, pairs.times_faster, goal])
    records.append(
        pairs.record(table=table.title, network=network, dtype=kind, batch_size=batch_size, steps=steps, peer=peer)
    )


def of_normalizations(context, records):
    """A table: an epoch with each normalization against one without."""
    title = "What a normalization adds"
    table = Table(
        title, ["network", "batch", "normalization", "step, plain (us)", "step (us)", "times as long", "to reach"]
    )
    for (n_features, hidden), sizes in SHAPES.items():
        for batch_size, n_samples in sizes.items():
            X, y = data(n_features, n_samples, np.float32)
            for normalization in NORMALIZATIONS:
                fits = [functools.partial(ours, X, y, hidden, batch_size, kind) for kind in (normalization, None)]
                pairs = alternate(*(Epoch(fit, SECONDS) for fit in fits), context.repeats)
                steps, network = -(-n_samples // batch_size), name_of(n_features, hidden)
                times = [number(1e6 * seconds / steps) for seconds in (pairs.ours_median, pairs.peer_median)]
                goal = f"at most {WITH_BATCH_NORMALIZATION}" if normalization == "batch" else ""
                table.rows.append([network, batch_size, normalization, *times, pairs.times_faster, goal])
                records.append(
                    {"table": title, "network": network, "batch_size": batch_size, "normalization": normalization}
                    | {"plain_seconds": pairs.ours, "seconds": pairs.peer, "ratios": pairs.ratios, "steps": steps}
                )
    return table


def run(context):
    records = []
    tables = [against_peers(context, records), of_normalizations(context, records)]
    return Result(
        "A step of a multilayer perceptron",
        "How long does a step take, beside scikit-learn and PyTorch?",
        tables,
        records,
    )
