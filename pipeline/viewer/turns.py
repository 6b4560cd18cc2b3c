"""One worker that serves many clients in turn, each with only its newest request."""

import logging
import threading
from collections.abc import Callable, Hashable

log = logging.getLogger("pipeline")
Job = Callable[[], "Job | None"]  # does a little and returns the rest of the work, if there is any


class Turns:
    """Jobs by asker. A new job of an asker takes the place of the one that waits, so nobody's queue grows.

    What is left of a job goes to the end of the line, behind everybody else, unless its asker wants something newer.
    """

    def __init__(self) -> None:
        self._jobs: dict[Hashable, Job] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._worker = threading.Thread(target=self._work, name="turns", daemon=True)
        self._worker.start()

    def ask(self, asker: Hashable, job: Job) -> None:
        """Have a job done when it is the asker's turn."""
        with self._changed:
            self._jobs[asker] = job  # an asker who waits already keeps their place
            self._changed.notify()

    def forget(self, asker: Hashable) -> None:
        """Drop what the asker waits for."""
        with self._changed:
            self._jobs.pop(asker, None)

    def stop(self) -> None:
        """End after the job at hand."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._stopped)
                if self._stopped:
                    return
                asker = next(iter(self._jobs))
                job = self._jobs.pop(asker)
            try:
                rest = job()
            except Exception:
                log.exception("the viewer could not serve %s", asker)
                continue
            if rest is not None:
                with self._changed:
                    self._jobs.setdefault(asker, rest)
