"""Errors that a user can act on: one line, naming the file, frame and camera, and what was expected."""


class PipelineError(Exception):
    """Base of the errors that a stage prints as one line before it exits with status 1."""


class ConfigError(PipelineError):
    """config.yaml or captures.tsv asks for something that is not allowed; names the key."""


class DataError(PipelineError):
    """A file does not hold what it should; names the file, frame or camera and what was expected."""
