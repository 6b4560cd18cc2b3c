"""Text files that people write: read as UTF-8, or named with the line that is not."""

from pathlib import Path

import yaml

from pipeline.errors import ConfigError

# A byte order mark tells how a file is encoded; spreadsheets write both.
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError naming the first line that is not UTF-8."""
    content = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8; expected the file to be saved as UTF-8") from error


def check_yaml(path: Path) -> None:
    """Raise ConfigError naming the line where a file is no YAML; Snakemake itself ends in a traceback or says less."""
    if not path.is_file():
        return  # Snakemake says so, unless another file is named on the command line
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{path}: {line}{error.problem or error.context}; expected YAML") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: holds {'nothing' if content is None else f'a {type(content).__name__}'}; expected keys"
        )
