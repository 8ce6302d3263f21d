"""Products of matrices that threads share: one leads, the others help, and a piece is the same whoever does it."""

from __future__ import annotations

from skminibatch.backends.cpu.compile import Kernel, called, inlined
from skminibatch.backends.cpu.intrinsics import (
    add_release,
    address_of,
    give_way,
    load_acquire,
    matrix_at,
    multiply,
    replace_if,
    store_release,
)

PIECE = 4_000_000  # multiplications; to meet another thread for fewer costs more than it does
MOST_PIECES = 8
FEWEST_ROWS = 128  # of a piece: in each, the other matrix is arranged anew
PER_LINE = 8  # numbers in a line of the cache
SPINS = 2_000  # looks at what the others have done before the time slice is given up
# What a job is: three addresses, three shapes, how it is turned, and in how many pieces; how many threads there are.
N_PIECES, N_THREADS, JOB = 10, 11, 12
TICKET, DONE, PLACES = (
    0,
    PER_LINE,
    2 * PER_LINE,
)  # the number of the job and its next piece in one; pieces that are done
TICKETS = 1 << 20  # of a job


def n_pieces(n_rows, multiplications):
    """The number of pieces of a product with `n_rows` rows: the same for every number of threads, so that the bits are the same.

    A power of two, so that two threads, or four, have as much to do each.
    """
    count = 1
    while count < MOST_PIECES and count * PIECE < multiplications and 2 * count * FEWEST_ROWS <= n_rows:
        count *= 2
    return count


_n_pieces = inlined(n_pieces)


@inlined
def do(A, B, out, turned, piece, count):
    """One of the pieces of a product."""
    n = out.shape[0]
    multiply(A, B, out, turned, piece * n // count, (piece + 1) * n // count)


@inlined
def wait_for(progress, line, number):
    """Wait until the first number of a line of the cache is as large."""
    spins = 0
    while load_acquire(progress, line * PER_LINE) < number:
        spins += 1
        if spins > SPINS:
            give_way()


@inlined
def take(crew, number, count):
    """The next piece of a job that nobody has taken, -1 if there is none or the job is over."""
    places, _ = crew
    while True:
        ticket = load_acquire(places, TICKET)
        piece = ticket - number * TICKETS
        if piece < 0 or piece >= count:
            return -1
        if replace_if(places, TICKET, ticket, ticket + 1):
            return piece


@called
def product(A, B, out, turned, crew):
    """``out = A B`` by those who are in the crew; with `turned` of 1 it is ``A' B`` and of 2 ``A B'``."""
    places, job = crew
    inner = A.shape[0] if turned == 1 else A.shape[1]
    count = _n_pieces(out.shape[0], out.size * inner)
    if count == 1 or job[N_THREADS] == 1:
        for piece in range(count):
            do(A, B, out, turned, piece, count)
        return
    job[0], job[1], job[2] = address_of(A), address_of(B), address_of(out)
    job[3], job[4], job[5], job[6] = A.shape[0], A.shape[1], B.shape[0], B.shape[1]
    job[7], job[8], job[9], job[N_PIECES] = out.shape[0], out.shape[1], turned, count
    number = places[TICKET] // TICKETS + 1
    places[DONE] = 0
    store_release(places, TICKET, number * TICKETS)
    piece = take(crew, number, count)
    while piece >= 0:
        do(A, B, out, turned, piece, count)
        add_release(places, DONE, 1)
        piece = take(crew, number, count)
    wait_for(places, DONE // PER_LINE, count)


@inlined
def dismiss(crew):
    """Send the others home."""
    places, job = crew
    job[N_PIECES] = 0
    store_release(places, TICKET, (places[TICKET] // TICKETS + 1) * TICKETS)


def release_helpers(crew) -> None:
    """Dismiss the others where the kernel that leads could not be called, so that it has left no job."""
    places, job = crew
    job[N_PIECES] = 0
    places[TICKET] += TICKETS


@Kernel
def help_with(crew, number_type):
    """Do pieces of products until there is no more to come; `number_type`: an array of the type of the matrices.

    Whoever was not looking while a job was done finds the ticket of another, so that no piece of that can be taken by what
    was read of this one.
    """
    places, job = crew
    last, spins = 0, 0
    while True:
        ticket = load_acquire(places, TICKET)
        number = ticket // TICKETS
        if number == last:
            spins += 1
            if spins > SPINS:
                give_way()
            continue
        count, turned = job[N_PIECES], job[9]
        A, B = matrix_at(job[0], number_type, job[3], job[4]), matrix_at(job[1], number_type, job[5], job[6])
        out = matrix_at(job[2], number_type, job[7], job[8])
        if load_acquire(places, TICKET) // TICKETS != number:
            continue
        if count == 0:
            return
        piece = take(crew, number, count)
        while piece >= 0:
            do(A, B, out, turned, piece, count)
            add_release(places, DONE, 1)
            piece = take(crew, number, count)
        last, spins = number, 0
