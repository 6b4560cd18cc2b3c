"""The pages: links lead somewhere, every page is found from the README, and what they name is there."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from pipeline.planning.config import Settings, stage_sections
from pipeline.provenance import ROOT

CARD = "pipeline/head/weights/MODEL_CARD.md"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", CARD)]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"```.*?```|`[^`]+`|(?m:^(?: {4,}\S[^\n]*\n)+)", re.DOTALL)
OWN_PATH = re.compile(r"(?:pipeline|tests|benchmarks|workflow|profiles|envs|data|docs)/[\w./-]*\w")
COMMAND = re.compile(r"python -m ((?:pipeline|benchmarks)[\w.]+)((?:\\\n|[^\n|])*)")
FENCE = re.compile(r"^```yaml\n(.*?)^```|((?:^ {4,}[a-z_]+: [^\n]*\n)+)", re.DOTALL | re.MULTILINE)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_in(page: Path) -> list[str]:
    """Code of a page: blocks and what stands in backquotes."""
    return [part.strip("`") for part in CODE.findall(text_of(page))]


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub calls them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """Files that a page links to, and the heading of each."""
    return [
        ((page.parent / path).resolve() if path else page, heading) for path, heading in LINK.findall(text_of(page))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target, heading in links(ROOT / name):
        assert target.exists(), f"{name}: {target}"
        assert not heading or heading in anchors(target), f"{name}: {target.name}#{heading}"


def test_every_page_is_found_from_the_readme() -> None:
    found, waiting = set(), [PAGES[0]]
    while waiting:
        page = waiting.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            waiting += [target for target, _ in links(page)]
    assert set(PAGES) <= found, sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - found)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_pages_name_are_there(name: str) -> None:
    paths = {path for code in code_in(ROOT / name) for path in OWN_PATH.findall(code) if code.startswith(path)}
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not [path for path in missing if "smooth" not in path], missing  # add-a-stage.md's made-up stage


def source_of(module: str) -> str:
    """The source of a module, or of a package's command; nothing for what is neither."""
    path = ROOT / module.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__main__.py"):
        if file.is_file():
            return text_of(file)
    return ""


@cache
def options_of(module: str) -> set[str]:
    """Options of a command: strings in its source and in those of the project's modules that it imports."""
    source = source_of(module)
    imported = re.findall(r"^from ((?:pipeline|benchmarks)[\w.]*) import (\w+)", source, re.MULTILINE)
    sources = [source, *(source_of(one) or source_of(f"{one}.{name}") for one, name in imported)]
    found = set(re.findall(r"\"(--[a-z][\w-]*)\"", "".join(sources))) | {"--help"}
    for text in sources:  # options that a loop adds: any word may be one
        found |= {f"--{word}" for word in re.findall(r"\"([a-z]+)\"", text)} if 'f"--{' in text else set()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_options_are_there(name: str) -> None:
    for code in code_in(ROOT / name):
        for module, rest in COMMAND.findall(code):
            if module.endswith("."):  # `<name>` follows
                continue
            assert source_of(module), f"{name}: {module}"
            assert set(re.findall(r"(?<=\s)--[a-z][\w-]*", rest)) <= options_of(module), f"{name}: {module}{rest}"
        for target in re.findall(r"^make ([a-z-]+)", code, re.MULTILINE):
            assert re.search(rf"^{target}:", text_of(ROOT / "Makefile"), re.MULTILINE), f"{name}: make {target}"


def known_keys(sections: dict) -> set[str]:
    """Dotted keys of all settings."""
    found = set()

    def add(fields: dict, whole: dict, prefix: str) -> None:
        for key, field in fields.items():
            found.add(prefix + key)
            if reference := field.get("$ref"):
                add(whole["$defs"][reference.rpartition("/")[2]]["properties"], whole, f"{prefix}{key}.")

    whole = Settings.model_json_schema()
    add({key: field for key, field in whole["properties"].items() if key not in sections}, whole, "")
    for section, model in sections.items():
        schema = model.model_json_schema()
        add(schema["properties"], schema, f"{section}.")
    return found


@pytest.mark.parametrize("name", [name for name in NAMES if name != "CHANGELOG.md"])
def test_settings_that_pages_name_are_there(name: str) -> None:
    sections = stage_sections()
    keys = known_keys(sections)
    groups = {key.partition(".")[0] for key in keys if "." in key}
    endings = {"md", "py", "json", "html", "tsv", "mp4", "csv", "safetensors", "zip", "tex"}
    for code in code_in(ROOT / name):
        if dotted := re.fullmatch(r"([a-z_]+)((?:\.[a-z_0-9]+)+)(?:: .*)?", code):
            key = dotted[1] + dotted[2]
            if dotted[1] in groups and key.rpartition(".")[2] not in endings:
                assert key in keys, f"{name}: {key}"
    blocks = [one or other for one, other in FENCE.findall(text_of(ROOT / name))]
    inline = [code for code in code_in(ROOT / name) if re.fullmatch(r"[a-z_]+: .+", code, re.DOTALL)]
    for block in [*blocks, *inline]:
        try:
            values = yaml.safe_load(block)
        except yaml.YAMLError:
            continue
        for section, value in values.items() if isinstance(values, dict) else ():
            if section in sections and isinstance(value, dict) and "..." not in block:
                sections[section].model_validate(value)


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| ([^|]+?) \|", text_of(ROOT / "docs/glossary.md"), re.MULTILINE)[2:]
    assert words == sorted(words, key=str.lower)
