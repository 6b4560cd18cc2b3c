#!/bin/bash
# Builds nvdiffrast, which is on no package index, into an environment (.venv, or the Python named first). Optional.
set -euo pipefail
cd "$(dirname "$0")/.."

TAG=v0.4.0
python=${1:-.venv/bin/python}

cuda=$("$python" -c 'import torch; print(torch.version.cuda or "")')
if [ -z "$cuda" ]; then
    echo "error: $python has a torch without CUDA; expected one with it, which envs/setup.sh takes where nvidia-smi is" >&2
    exit 1
fi
if ! command -v nvcc >/dev/null; then
    echo "error: no nvcc on the PATH; expected the CUDA toolkit $cuda, for which this torch was built" >&2
    exit 1
fi

"$python" -m pip install --quiet setuptools wheel ninja
"$python" -m pip install --no-build-isolation "git+https://github.com/NVlabs/nvdiffrast@$TAG"
"$python" -c 'import nvdiffrast.torch; nvdiffrast.torch.RasterizeCudaContext()'
