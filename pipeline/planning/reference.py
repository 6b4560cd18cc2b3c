"""What is made from the classes of the settings: the JSON schema that editors read, and docs/settings.md.

Run `python -m pipeline.planning.reference` after a change of any settings.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.planning.config import Settings, stage_sections
from pipeline.planning.presets import PRESETS
from pipeline.provenance import ROOT

SCHEMA = ROOT / "workflow/schemas/config.schema.json"
PAGE = ROOT / "docs/settings.md"
OTHER_PRESET = "paper"
COLUMNS = ("key", "default", OTHER_PRESET, "allowed", "meaning")
INTRODUCTION = f"""# All settings

Every key of `config.yaml`. `preset: {OTHER_PRESET}` starts from the values in the column {OTHER_PRESET} instead of the
defaults; a value in `config.yaml` itself wins over both. This page is made from the classes in `pipeline/settings` by
`python -m pipeline.planning.reference`, as is the schema that lets editors complete `config.yaml`.
"""
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "multipleOf": "multiple of"}
PLAIN = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "names with a section of settings each",
}


def schema() -> str:
    """The JSON schema of config.yaml."""
    return json.dumps(Settings.model_json_schema(), indent=2) + "\n"


def page() -> str:
    """The page of all settings, as Markdown: a table for what belongs to no stage, and one per stage."""
    whole = Settings.model_json_schema()
    stages = stage_sections()
    common = {key: field for key, field in whole["properties"].items() if key not in stages}
    parts = [INTRODUCTION, "## The whole\n", _table(_rows(common, whole, PRESETS[OTHER_PRESET]))]
    for name, section in sorted(stages.items()):
        described = section.model_json_schema()
        rows = _rows(described["properties"], described, PRESETS[OTHER_PRESET].get(name, {}))
        parts += [f"## {name}\n", described["description"] + "\n", _table(rows)]
    return "\n".join(parts)


def _rows(
    fields: dict[str, Any], whole: dict[str, Any], other: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, ...]]:
    """A row per value; the fields of a section within a section follow with dotted keys."""
    for key, field in fields.items():
        if reference := field.get("$ref"):
            inner = whole["$defs"][reference.rpartition("/")[2]]
            yield from _rows(inner["properties"], whole, other.get(key, {}), f"{prefix}{key}.")
            continue
        default = _value(field["default"]) if "default" in field else "required"
        changed = _value(other[key]) if key in other and other[key] != field.get("default") else ""
        yield f"`{prefix}{key}`", default, changed, _allowed(field), field["description"]


def _table(rows: Iterator[tuple[str, ...]]) -> str:
    lines = [" | ".join(part.replace("|", "\\|") for part in row) for row in rows]
    if not lines:
        return "No settings.\n"
    head = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    return "".join(f"| {line} |\n" for line in [*head, *lines])


def _value(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10_000 else f"{value:g}"


def _allowed(field: dict[str, Any]) -> str:
    """Which values a field takes, in words."""
    if alternatives := field.get("anyOf"):
        return " or ".join(_allowed(alternative) for alternative in alternatives)
    if "enum" in field or "const" in field:
        return ", ".join(_value(value) for value in field.get("enum", [field.get("const")]))
    if field["type"] == "array":
        if several := field.get("prefixItems"):
            return f"{len(several)} values: {_allowed(several[0])}"
        least = field.get("minItems", 0)
        return f"list{f' of at least {least}' if least else ''}: {_allowed(field['items'])}"
    if field.get("additionalProperties", {}).get("type") == "string":
        return "names with a text each"
    limits = [f"{sign} {_number(field[name])}" for name, sign in LIMITS.items() if name in field]
    return ", ".join([PLAIN[field["type"]], *limits])


def files() -> dict[Path, str]:
    """What belongs into the files that are made from the settings."""
    return {SCHEMA: schema(), PAGE: page()}


def main() -> None:
    """Write both files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
