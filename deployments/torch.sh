#!/bin/sh
# torch for one variant of the image: torch.sh cpu|cuda [INDEX]. Refuses what would not become that variant, before
# gigabytes are downloaded where that can be known, and after the installation otherwise.
set -eu
VARIANT=${1:?cpu or cuda}
INDEX=${2:-}

case $VARIANT in
  cpu)
    if [ -z "$INDEX" ] && [ "$(uname -m)" = x86_64 ]; then
      echo "TORCH_INDEX is not given: the default package index has torch for CUDA only. Give the index with torch for" \
        "CPUs (PyTorch's installation page names it), or build the other variant: --build-arg VARIANT=cuda" >&2
      exit 2
    fi ;;
  cuda) ;;
  *) echo "VARIANT=$VARIANT: cpu or cuda" >&2; exit 2 ;;
esac

if [ -n "$INDEX" ]; then
  pip install --constraint constraints.txt --no-deps --index-url "$INDEX" torch
else
  pip install --constraint constraints.txt torch
fi

# Without its dependencies torch cannot be imported yet; what it was built for stands in a file of its own.
python - "$VARIANT" <<'PYTHON'
import importlib.metadata
import runpy
import sys

built = runpy.run_path(str(importlib.metadata.distribution("torch").locate_file("torch/version.py")))["cuda"]
if (built is not None) != (sys.argv[1] == "cuda"):
    sys.exit(f"VARIANT={sys.argv[1]}, but this torch was built for {f'CUDA {built}' if built else 'CPUs'}")
PYTHON
