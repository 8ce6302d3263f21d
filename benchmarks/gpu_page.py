"""The page of the measurements on a GPU: what is asked for beside what was found, or that it was not measured."""

from timing import number

NOT_MEASURED = "not measured"
LINEAR = "linear, 1,000,000 x 100, float32"
NETWORK = "network 784-256-128-10, float32, batch 256"
PEERS = {
    256: {"CuPy, plain operations": 5.0, "JAX, lax.scan under jit": 3.0, "PyTorch, CUDA graph": 3.0},
    4096: {"CuPy, plain operations": 5.0, "JAX, lax.scan under jit": 3.0, "PyTorch, CUDA graph": 3.0},
}
NETWORK_PEERS = {"PyTorch, eager, fused Adam": 3.0, "PyTorch, CUDA graph": 1.0}
SHARE_OF_COPY = 0.5  # of the bandwidth of a copy, at the batch size
LARGE_BATCH = 65_536
DIFFERENCE = 1e-9


class Records:
    """What was measured, found by its facts."""

    def __init__(self, stored):
        self.records = [] if stored is None else stored["records"]

    def all(self, **facts):
        return [one for one in self.records if all(one.get(name) == value for name, value in facts.items())]

    def one(self, **facts):
        return next(iter(self.all(**facts)), {})


def median(record, which="wall_seconds"):
    """A median with its quartiles in milliseconds, or why there is none."""
    if which not in record:
        return record.get("left_out", NOT_MEASURED)
    found = record[which]
    return f"{number(1e3 * found['median'])} ({number(1e3 * found['low'])} to {number(1e3 * found['high'])})"


def ratio(peer, ours):
    if "wall_seconds" not in peer or "wall_seconds" not in ours:
        return NOT_MEASURED
    return number(peer["wall_seconds"]["median"] / ours["wall_seconds"]["median"])


def against_peers(records):
    """Rows: what, ours, the peer, how much faster, and what is asked for."""
    rows = []
    for batch_size, peers in PEERS.items():
        ours = records.one(name="linear", batch_size=batch_size, who="ours")
        for peer, goal in peers.items():
            found = records.one(name="linear", batch_size=batch_size, who=peer)
            rows.append([f"{LINEAR}, batch {batch_size}", peer, median(ours), median(found), ratio(found, ours), goal])
    ours = records.one(name="network", who="ours")
    for peer, goal in NETWORK_PEERS.items():
        found = records.one(name="network", who=peer)
        rows.append([NETWORK, peer, median(ours), median(found), ratio(found, ours), goal])
    return table(["epoch of", "peer", "ours (ms)", "peer (ms)", "times faster", "to reach"], rows)


def of_device(records):
    """Rows: what the device does by itself, and what our kernel makes of it."""
    found, large = records.one(name="device"), records.one(name="linear", batch_size=LARGE_BATCH, who="ours")
    copy, ours = found.get("copy_bytes_per_second"), large.get("bytes_per_second")
    rows = [
        ["copy on the device, read and written (GB/s)", scaled(copy, 1e-9), ""],
        ["copy to the device (GB/s)", scaled(found.get("host_to_device_bytes_per_second"), 1e-9), ""],
    ]
    for dtype in ("float32", "float64"):
        products = found.get(f"product_operations_per_second_{dtype}")
        rows.append([f"product of matrices, {dtype} (TFLOP/s)", scaled(products, 1e-12), ""])
    share = None if copy is None or ours is None else ours / copy
    what = f"{LINEAR}, batch {LARGE_BATCH}: rows read in a second, as a share of the copy"
    rows.append([what, scaled(share, 1.0), f"at least {SHARE_OF_COPY}"])
    return table(["what", "found", "to reach"], rows)


def of_fit(records):
    """Rows: `fit` as a whole, rows being on the device."""
    rows = []
    for batch_size in (*PEERS, LARGE_BATCH):
        found, ours = (records.one(name="linear", batch_size=batch_size, who=who) for who in ("fit", "ours"))
        each = scaled(found.get("epoch_seconds"), 1e3)
        rows.append([batch_size, median(ours, "device_seconds"), each, median(found, "one_epoch")])
    columns = ["batch", "epoch by events (ms)", "further epoch of fit, wall (ms)", "fit of one epoch, wall (ms)"]
    return table(columns, rows)


def of_crossover(records):
    """Rows: an epoch on the CPU and on the GPU."""
    rows = []
    for one in records.all(name="crossover", who="cpu"):
        there = records.one(name="crossover", who="cuda", batch_size=one["batch_size"], shape=one["shape"])
        rows.append([one["shape"][1], one["batch_size"], median(one), median(there), ratio(one, there)])
    if not rows:
        return records.one(name="crossover").get("left_out", NOT_MEASURED).capitalize() + "."
    return table(["features", "batch", "CPU (ms)", "GPU (ms)", "CPU / GPU"], rows)


def of_agreement(records):
    """Rows: how far CPU and GPU are apart after one epoch in float64."""
    rows = [
        [one["what"], number(one["largest_difference"]), "yes" if one["same_bits"] else "no"]
        for one in records.all(name="agreement")
        if "what" in one
    ]
    if not rows:
        return f"{NOT_MEASURED.capitalize()}."
    return table(["what", f"largest relative difference (to reach: {DIFFERENCE:g})", "same bits twice"], rows)


def of_tests(records):
    found = records.one(name="tests")
    counts = [f"{found[what]} {what}" for what in ("passed", "failed", "skipped", "error", "errors") if what in found]
    return f"Tests on the device: {', '.join(counts) or found.get('left_out', NOT_MEASURED)}."


def scaled(value, unit):
    return NOT_MEASURED if value is None else number(value * unit)


def table(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def page(stored):
    """The page as Markdown; of None, where nothing has been measured."""
    records = Records(stored)
    failed = [f"{one['name']}: {one['failed']}" for one in records.records if "failed" in one and "name" in one]
    failed = [line for line in failed if not line.startswith("tests")]
    parts = [
        "# On a GPU",
        "An epoch of ours beside the peers, and what the device could do.",
        f"## Against peers\n\n{against_peers(records)}",
        f"## Against the device\n\n{of_device(records)}",
        f"## Fit as a whole\n\nThe rows are on the device.\n\n{of_fit(records)}",
        f"## Against the CPU of the same machine\n\n{of_crossover(records)}",
        f"## Agreement\n\nAfter one epoch in float64.\n\n{of_agreement(records)}\n\n{of_tests(records)}",
        *(["Failed: " + "; ".join(failed) + "."] if failed else []),
        written(stored),
    ]
    return "\n\n".join(parts) + "\n"


def written(stored):
    """Where the numbers are from."""
    if stored is None:
        return "No GPU was at hand: nothing on this page has been measured. `python benchmarks/gpu.py` does so."
    facts = stored["facts"]
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return (
        f"Measured on {facts['date']}: {facts['device']}, CUDA {facts['cuda']['runtime']} (driver {facts['cuda']['driver']}), "
        f"{facts['cores']} cores, {facts['machine']}, Python {facts['python']}; {versions}. Times are medians (quartiles) of "
        f"{facts['repeats']} calls. Written by `python benchmarks/gpu.py`; the raw numbers are in `docs/benchmarks/gpu.json`."
    )
