"""The same function over many items, in several processes of one thread each."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
# Whether this process has begun with it, as jobs of one thread do: Snakemake sets all three
HAS_ONE_THREAD = all(os.environ.get(name) == "1" for name in ONE_THREAD)


@contextmanager
def workers(count: int, start: Callable[[], None] | None = None) -> Iterator[Map]:
    """A `map` whose calls run in `count` processes, each of which calls `start` first; order is kept.

    Also one worker is a process of its own, unless this one has begun with one thread: BLAS reads its number of threads
    when it is loaded, and another number may round differently.
    """
    if count == 1 and HAS_ONE_THREAD:
        if start:
            start()
        yield map
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        # Spawned, not forked: a child of a process with running threads may hang on their locks.
        with ProcessPoolExecutor(count, get_context("spawn"), initializer=start) as pool:
            try:
                yield pool.map
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def compute_alike() -> None:
    """One thread of PyTorch, no denormal numbers: a process computes the same bits as any other.

    The products are small: two threads took 30 times the CPU time of one on a busy machine (1.4 s and 0.05 s a step).
    """
    import torch  # takes seconds, which workers without it need not spend

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
