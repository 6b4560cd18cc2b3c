"""What every stage's command line shares: settings from JSON, log lines, one clear error, progress."""

import argparse
import faulthandler
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import PipelineError

log = logging.getLogger("pipeline")
ASIDE = "PIPELINE_SETTINGS_ASIDE"  # {class of settings: its values that affect no result}, as JSON


def parser(about: str | None, settings: type[BaseModel]) -> argparse.ArgumentParser:
    """A parser with `--settings JSON`, validated by the stage's own model.

    What the JSON lacks and the environment variable ASIDE has is taken from there: values that Snakemake is not to
    compare, because no result depends on them.
    """

    def parse_settings(text: str) -> BaseModel:
        try:
            more = json.loads(os.environ.get(ASIDE, "{}")).get(settings.__name__, {})
            return settings.model_validate_json(json.dumps(more | json.loads(text)))
        except (ValidationError, ValueError, TypeError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    result = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--settings", type=parse_settings, default=settings(), help="the stage's settings as JSON")
    result.add_argument("--code", default="", help="digest of the stage's code, for the record in its output")
    return result


def add_span(arguments: argparse.ArgumentParser) -> None:
    """Add what names a chunk: subject, sequence and the half-open range of time steps."""
    arguments.add_argument("--subject", required=True)
    arguments.add_argument("--sequence", required=True)
    arguments.add_argument("--start", type=int, required=True, help="first time step")
    arguments.add_argument("--stop", type=int, required=True, help="one past the last time step")


def record(stage: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The attributes that say where a chunk came from: stage, settings, code and what `add_span` added."""
    span = {name: getattr(arguments, name) for name in ("subject", "sequence", "start", "stop") if name in arguments}
    return {"stage": stage, **span, "settings": arguments.settings.model_dump(mode="json"), "code": arguments.code}


def run(main: Callable[[], None]) -> None:
    """Run a stage: log lines to stderr, a PipelineError or OSError as one line and status 1, bugs as tracebacks.
    Ctrl-C is one line and status 130."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        main()
    except (PipelineError, OSError) as error:
        log.error("error: %s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("error: interrupted; nothing unfinished was published")
        sys.exit(130)


def existing_file(text: str) -> Path:
    """An argparse type: a path that must be a file."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {path}")
    return path


class Progress:
    """Logs rate and time left of a long loop, at most once every `every` seconds."""

    def __init__(self, total: int, unit: str, done: int = 0, every: float = 10.0):
        self.total, self.unit, self.first, self.every = total, unit, done, every
        self.started = self.spoken = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Say that `done` of the total units are finished; the first and the last are always logged."""
        now = time.monotonic()
        if done < self.total and done > self.first + 1 and now - self.spoken < self.every:
            return
        self.spoken = now
        rate = max(done - self.first, 1e-9) / max(now - self.started, 1e-9)
        left = (self.total - done) / rate
        log.info("%d/%d %s, %.3g %s/s, %.0f s left%s", done, self.total, self.unit, rate, self.unit, left, note)
