"""Values that threads make before they are asked for."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

# Values made ahead by the device that computes. On a CPU threads take its cores from the step, whose OpenMP team then
# crawls: the demo trained 2.0 images/s with them and 3.4 without, on two idle cores.
READ_AHEAD = {"cpu": 0, "cuda": 4}

Value = TypeVar("Value")


class Ahead(Generic[Value]):
    """`make(n)` for one n after another, where `depth` threads are at work on the next ones.

    With a depth of 0 every value is made when it is asked for. Numbers may be asked for in any order; what was made
    for others is then dropped. `waited`: seconds that `take` has spent waiting.
    """

    def __init__(self, make: Callable[[int], Value], stop: int, depth: int, threads: int):
        """No number from `stop` on is made ahead."""
        self.make, self.stop, self.depth = make, stop, depth
        self.waited = 0.0
        self._waiting: deque[tuple[int, Future[Value]]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead") if depth else None

    def take(self, number: int) -> Value:
        """The value of `number`, and work on the following ones begun. An error in `make` is raised here."""
        started = time.perf_counter()
        try:
            if not self._pool:
                return self.make(number)
            if self._waiting and self._waiting[0][0] != number:
                self.drop()
            following = number + len(self._waiting)
            for n in range(following, max(min(number + self.depth + 1, self.stop), number + 1)):
                self._waiting.append((n, self._pool.submit(self.make, n)))
            return self._waiting.popleft()[1].result()
        finally:
            self.waited += time.perf_counter() - started

    def close(self) -> None:
        """End the threads; what they are at work on is finished first."""
        self.drop()
        if self._pool:
            self._pool.shutdown()

    def drop(self) -> None:
        """Forget what was made ahead."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
