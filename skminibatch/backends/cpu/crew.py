"""Products of matrices that threads share: one leads, the others help, and a piece is the same whoever does it."""

from __future__ import annotations

from skminibatch.backends.cpu.compile import Kernel, called, inlined
from skminibatch.backends.cpu.intrinsics import (
    address_of,
    give_way,
    load_acquire,
    matrix_at,
    multiply,
    store_release,
)

PIECE = 4_000_000  # multiplications; to meet another thread for fewer costs more than it does
MOST_PIECES = 8
FEWEST_ROWS = 128  # of a piece: in each, the other matrix is arranged anew
PER_LINE = 8  # numbers in a line of the cache
SPINS = 2_000  # looks at what the others have done before the time slice is given up
N_PIECES, JOB = 10, 11  # what a job is: three addresses, three shapes, how it is turned, and in how many pieces


def n_pieces(n_rows, multiplications):
    """Pieces that a product with so many rows is done in, whatever the number of threads: so its bits are the same.

    A power of two, so that two threads, or four, have as much to do each.
    """
    count = 1
    while count < MOST_PIECES and count * PIECE < multiplications and 2 * count * FEWEST_ROWS <= n_rows:
        count *= 2
    return count


_n_pieces = inlined(n_pieces)


@inlined
def pieces(A, B, out, turned, first, count, step):
    """Every `step`-th of `count` pieces from the first on."""
    n = out.shape[0]
    for piece in range(first, count, step):
        multiply(A, B, out, turned, piece * n // count, (piece + 1) * n // count)


@inlined
def wait_for(progress, thread, number):
    """Wait until a thread is as far as that."""
    spins = 0
    while load_acquire(progress, thread * PER_LINE) < number:
        spins += 1
        if spins > SPINS:
            give_way()


@called
def product(A, B, out, turned, crew):
    """``out = A B`` by those who are in the crew; with `turned` of 1 it is ``A' B`` and of 2 ``A B'``."""
    progress, job = crew
    n_threads, inner = progress.size // PER_LINE, A.shape[0] if turned == 1 else A.shape[1]
    count = _n_pieces(out.shape[0], out.size * inner)
    if count == 1 or n_threads == 1:
        pieces(A, B, out, turned, 0, count, 1)
        return
    job[0], job[1], job[2] = address_of(A), address_of(B), address_of(out)
    job[3], job[4], job[5], job[6] = A.shape[0], A.shape[1], B.shape[0], B.shape[1]
    job[7], job[8], job[9], job[N_PIECES] = out.shape[0], out.shape[1], turned, count
    number = progress[0] + 1
    store_release(progress, 0, number)
    pieces(A, B, out, turned, 0, count, n_threads)
    for thread in range(1, n_threads):
        wait_for(progress, thread, number)


@inlined
def dismiss(crew):
    """Send the others home."""
    progress, job = crew
    job[N_PIECES] = 0
    store_release(progress, 0, progress[0] + 1)


@Kernel
def help_with(parts, crew, thread, number):
    """Do every piece of each product that is due to a thread, until it is sent home; `number`: an array of the type."""
    progress, job = crew
    n_threads, done = progress.size // PER_LINE, 0
    while True:
        done += 1
        wait_for(progress, 0, done)
        if job[N_PIECES] == 0:
            return
        A, B = matrix_at(job[0], number, job[3], job[4]), matrix_at(job[1], number, job[5], job[6])
        out = matrix_at(job[2], number, job[7], job[8])
        pieces(A, B, out, job[9], thread, job[N_PIECES], n_threads)
        store_release(progress, thread * PER_LINE, done)
