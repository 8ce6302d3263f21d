"""The peers on a GPU: the same epoch of logistic regression or of a network, in CuPy, JAX and PyTorch.

Each function returns a callable that starts one epoch on data that are on the device; what it draws, it draws there.
"""

import itertools

import numpy as np

RATE, ALPHA = 1e-3, 1e-4
STEPS_A_GRAPH = 16  # of a linear model, so that the launch of a graph counts little


def cupy_linear(X, y, batch_size):
    """Plain operations of CuPy, one after the other."""
    import cupy

    X, y = cupy.asarray(X), cupy.asarray(y)
    n, d = X.shape

    def epoch():
        w, intercept = cupy.zeros(d, X.dtype), cupy.zeros((), X.dtype)
        order = cupy.random.permutation(n)
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            Xb, yb = X[rows], y[rows]
            residuals = -yb / (1.0 + cupy.exp(yb * (Xb @ w + intercept)))
            w -= RATE * (residuals @ Xb / len(rows) + ALPHA * w)
            intercept -= RATE * residuals.mean()
        return w

    return epoch


def jax_linear(X, y, batch_size):
    """The whole epoch as one `lax.scan` under `jit`."""
    import jax
    import jax.numpy as jnp

    device = jax.devices("gpu")[0]  # an error where JAX has none, rather than times of the CPU
    X, y = jax.device_put(X, device), jax.device_put(y, device)
    n, d = X.shape
    steps = n // batch_size  # without the rest: an advantage

    @jax.jit
    def epoch(key, X, y):
        order = jax.random.permutation(key, n)[: steps * batch_size].reshape(steps, batch_size)

        def step(state, rows):
            w, intercept = state
            Xb, yb = X[rows], y[rows]
            residuals = -yb / (1.0 + jnp.exp(yb * (Xb @ w + intercept)))
            w = w - RATE * (residuals @ Xb / batch_size + ALPHA * w)
            return (w, intercept - RATE * residuals.mean()), None

        state, _ = jax.lax.scan(step, (jnp.zeros(d, X.dtype), jnp.zeros((), X.dtype)), order)
        return state

    keys = map(jax.random.PRNGKey, itertools.count())
    return lambda: jax.block_until_ready(epoch(next(keys), X, y))


def torch_linear(X, y, batch_size):
    """A CUDA graph of PyTorch that holds several steps; the rows of a step are found by a counter on the device."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    X, y = torch.from_numpy(X).cuda(), torch.from_numpy(y).cuda()
    n, d = X.shape
    n_steps = n // batch_size
    unrolled = max(k for k in range(1, STEPS_A_GRAPH + 1) if n_steps % k == 0)
    w, intercept = torch.zeros(d, device="cuda", dtype=X.dtype), torch.zeros(1, device="cuda", dtype=X.dtype)
    order, place = torch.randperm(n, device="cuda"), torch.arange(batch_size, device="cuda")
    first = place.clone()

    def steps():
        for _ in range(unrolled):
            rows = order[place]
            Xb, yb = X[rows], y[rows]
            residuals = -yb / (1.0 + torch.exp(yb * (Xb @ w + intercept)))
            w.sub_(RATE * (residuals @ Xb / batch_size + ALPHA * w))
            intercept.sub_(RATE * residuals.mean())
            place.add_(batch_size)

    graph = captured(steps, lambda: place.copy_(first))

    def epoch():
        w.zero_()
        intercept.zero_()
        place.copy_(first)
        order.copy_(torch.randperm(n, device="cuda"))
        for _ in range(n_steps // unrolled):
            graph.replay()

    return synchronous(epoch)


def torch_network(X, y, hidden, batch_size, graphed):
    """Linear layers, ReLU, the cross-entropy and fused Adam of PyTorch: eager, or one CUDA graph a step."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    X, target = torch.from_numpy(X).cuda(), torch.from_numpy(y).cuda()
    n_steps, widths, layers = len(X) // batch_size, [X.shape[1], *hidden], []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], int(target.max()) + 1)).cuda()
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=ALPHA, fused=True, capturable=graphed)
    order, place = torch.randperm(len(X), device="cuda"), torch.arange(batch_size, device="cuda")
    first = place.clone()

    def step():
        rows = order[place]
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(X[rows]), target[rows]).backward()
        optimizer.step()
        place.add_(batch_size)

    call = captured(step, lambda: place.copy_(first)).replay if graphed else step

    def epoch():
        place.copy_(first)
        order.copy_(torch.randperm(len(X), device="cuda"))
        for _ in range(n_steps):
            call()

    return synchronous(epoch)


def captured(steps, restart):
    """A CUDA graph of some steps, which have run on another stream before, as PyTorch asks for."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            restart()
            steps()
    torch.cuda.current_stream().wait_stream(stream)
    restart()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # JAX has threads of its own
        steps()
    return graph


def synchronous(epoch):
    """An epoch that ends when the device is done: libraries have streams of their own."""
    import torch

    def call():
        epoch()
        torch.cuda.synchronize()

    return call


LINEAR = {
    "CuPy, plain operations": ("cupy", cupy_linear),
    "JAX, lax.scan under jit": ("jax", jax_linear),
    "PyTorch, CUDA graph": ("torch", torch_linear),
}


def rows(n, d, dtype=np.float32, seed=0):
    """Rows and labels -1 and +1 of a linear problem."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.float32).astype(dtype, copy=False)
    return X, np.where(X @ rng.standard_normal(d).astype(dtype) > 0, 1, -1).astype(dtype)
