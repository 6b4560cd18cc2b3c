#!/bin/bash
# Makes .venv from the lock, with torch's CPU build where there is no NVIDIA GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

runs() { # whether a command is a Python of 3.11 to 3.13
    command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

for python in python3.13 python3.12 python3.11 python3 none; do
    if [ "$python" = none ] || runs "$python"; then break; fi
done
if [ "$python" = none ]; then
    echo "error: no Python 3.11, 3.12 or 3.13 on the PATH; on Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian's python3 comes without its venv
    if [ "$(id -u)" != 0 ]; then
        echo "error: $python cannot make environments; run: sudo apt-get install python3-venv" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi

"$python" -m venv .venv
install=(.venv/bin/pip install --quiet --disable-pip-version-check --no-input)
if ! command -v nvidia-smi >/dev/null; then # PyPI's own torch brings gigabytes of CUDA
    "${install[@]}" --no-deps --retries 0 --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' envs/requirements.txt)"
fi
"${install[@]}" --no-deps -r envs/requirements.txt # the lock is whole; cvvdp would bring torchvision, and with it CUDA
"${install[@]}" --no-deps -e .
.venv/bin/python -c 'import pymatting' # compiles its kernels once, before parallel jobs would each do it
envs/detectors.sh .venv/bin/python || echo "no face networks: the workflow runs without what they see (docs/stages/detect.md)" >&2
