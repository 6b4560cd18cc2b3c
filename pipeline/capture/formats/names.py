"""What names of files in a folder mean, and whether they can be told apart: order, numbers, masks, doubles."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from pipeline.capture.formats.base import Source, Stills
from pipeline.errors import ConfigError

NUMBER = re.compile(r"(\d+)")
MOMENT = re.compile(r"(frame|time|timestep|step|t)s?[_-]?\d+", re.IGNORECASE)


def visible(folder: Path) -> list[Path]:
    """What lies in a folder but for what systems hide: macOS puts `._name.mp4` beside each file it copies."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def in_order(paths: Iterable[Path]) -> list[Path]:
    """By name, numbers in it by their value: frame_2 comes before frame_10."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = NUMBER.split(path.stem)  # every second one is a number
        return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name

    return sorted(paths, key=key)


def of_mask(name: str, pictures: Collection[str]) -> str:
    """The picture, or camera, that a mask of this name belongs to: as it is named, or left.jpg, left_mask, mask_left
    for left; its own name where none fits."""
    tried = (name, Path(name).stem, name.removesuffix("_mask"), name.removeprefix("mask_"))
    return next((found for found in tried if found in pictures), name)


def check_folder(folder: Path, videos: Collection[str], pictures: Collection[str], unread: Collection[str]) -> None:
    """Raise ConfigError where a folder holds what nothing reads, files of one name, or videos among pictures."""
    files = in_order(path for path in visible(folder) if path.suffix.lower() in {*videos, *pictures, *unread})
    films = [path for path in files if path.suffix.lower() in videos]
    shown = [path for path in files if path.suffix.lower() in pictures]
    read = {path.stem for path in shown}
    if found := [path for path in files if path.suffix.lower() in unread and path.stem not in read]:
        raise ConfigError(
            f"{found[0]}: {found[0].suffix[1:].upper()} pictures are not read ({len(found)} here); expected JPEG or PNG"
        )
    if films and shown:
        raise ConfigError(
            f"{folder}: {films[0].name} is a video and {shown[0].name} a picture; expected videos/ or images/ apart"
        )
    for first, second in pairwise(sorted(films or shown, key=lambda path: path.stem)):
        if first.stem == second.stem:
            raise ConfigError(f"{folder}: {first.name} and {second.name} have one name; expected one of them")


def check_names(folder: Path, sources: Mapping[str, Source]) -> None:
    """Raise ConfigError where folders that should be cameras are moments, with a picture of each camera in them."""
    series = [name for name, source in sources.items() if isinstance(source, Stills) and len(source.paths) > 1]
    if len(series) > 1 and all(MOMENT.fullmatch(name) for name in series):
        raise ConfigError(
            f"{folder}: the folders {series[0]}, {series[1]} ... are named as moments; expected a folder for each "
            "camera, <camera>/<frame>.jpg"
        )


def check_numbers(sources: Mapping[str, Source]) -> None:
    """Raise ConfigError where a camera lacks a picture amid a series that others have, although the counts agree.

    Only of series that count evenly: names that are times jitter.
    """
    counted = {name: numbers for name, source in sources.items() if (numbers := _numbers(source))}
    steps = Counter(after - before for numbers in counted.values() for before, after in pairwise(numbers))
    if len({len(numbers) for numbers in counted.values()}) != 1 or len(counted) < 2 or not steps:
        return
    step, times = steps.most_common(1)[0]
    even = [name for name, numbers in counted.items() if all(b - a == step for a, b in pairwise(numbers))]
    if 2 * len(even) <= len(counted) or 2 * times <= steps.total():
        return
    for name, numbers in counted.items():
        for place, (before, after) in enumerate(pairwise(numbers)):
            if after - before != step:
                files = sources[name].files()
                raise ConfigError(
                    f"{files[place].parent}: camera {name}: {files[place + 1].name} comes after {files[place].name}; "
                    f"expected numbers that go on by {step}, as those of camera {even[0]}"
                )


def check_starts(sources: Mapping[str, Source]) -> None:
    """Raise ConfigError where a camera's numbers start among the others': it began later, or lacks its first pictures,
    and in order its pictures would be taken for other moments."""
    for name, other, own, usual, step in _starting_apart(sources):
        if (own[0] - usual[0]) % step == 0 and own[0] <= usual[-1] and usual[0] <= own[-1]:
            raise ConfigError(
                f"{sources[name].files()[0].parent}: camera {name}: its pictures are numbered from {own[0]}, those of "
                f"camera {other} from {usual[0]}; expected the same numbers for the same moments: remove what only "
                "some have, or number each camera's pictures from 0"
            )


def own_counts(sources: Mapping[str, Source]) -> list[str]:
    """A line for each camera whose numbers have nothing in common with the others': it counts by itself."""
    return [
        f"camera {name}: its pictures are numbered from {own[0]}, those of camera {other} from {usual[0]}: the first "
        "of both are taken for one moment"
        for name, other, own, usual, _ in _starting_apart(sources)
        if own[0] > usual[-1] or usual[0] > own[-1]
    ]


def _starting_apart(sources: Mapping[str, Source]) -> list[tuple[str, str, list[int], list[int], int]]:
    """Series that count evenly, but from another number than most: camera, one of the usual ones, the numbers of both,
    and the step. Names that are times start apart too, but do not count evenly by one step."""
    counted = {name: numbers for name, source in sources.items() if (numbers := _numbers(source))}
    even = {name: numbers for name, numbers in counted.items() if len({b - a for a, b in pairwise(numbers)}) == 1}
    steps = Counter(numbers[1] - numbers[0] for numbers in even.values())
    step = steps.most_common(1)[0][0] if steps else 0
    even = {name: numbers for name, numbers in even.items() if step > 0 and numbers[1] - numbers[0] == step}
    if not even:
        return []
    first = Counter(numbers[0] for numbers in even.values()).most_common(1)[0][0]
    usual = next(name for name, numbers in even.items() if numbers[0] == first)
    return [(name, usual, own, even[usual], step) for name, own in even.items() if own[0] != first]


def _numbers(source: Source) -> list[int]:
    """The last number in each name of a series; none where it is no series, or a name has no number."""
    found = [NUMBER.findall(path.stem) for path in source.paths] if isinstance(source, Stills) else []
    return [int(numbers[-1]) for numbers in found] if len(found) > 1 and all(found) else []
