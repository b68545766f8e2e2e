# Sourced by each package's smoke test, which sets `package` and `unwanted` (modules that the wheel must not bring): installs
# the built wheels into an empty environment, goes to an empty folder, and checks what all packages promise.
set -euo pipefail
dist=$(realpath "${1:-dist}")
uv=${UV:-uv}
here=$(cd "$(dirname "$0")/../.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
"$uv" venv --quiet "$room/venv"
wheels=("$(ls -t "$dist"/pentatonic-*.whl | head -n 1)" "$(ls -t "$dist/${package//-/_}"-*.whl | head -n 1)")
"$uv" pip install --quiet --python "$room/venv/bin/python" "${wheels[@]}"
cd "$room" # nothing of the checkout is importable from here
export PATH="$room/venv/bin:$PATH" HF_HUB_OFFLINE=1

"$package" --help > /dev/null # compiles the modules, so that the next call is timed as any later one
python - "$package" "$unwanted" <<'PY'
import importlib.metadata
import importlib.util
import subprocess
import sys
import time
from importlib.resources import files

package, unwanted = sys.argv[1:]
module = importlib.import_module(package.replace("-", "_"))
for name in unwanted.split():
    assert importlib.util.find_spec(name) is None, f"the wheel of {package} pulled in {name}"
print(package, module.__version__, "imports;", len(list(importlib.metadata.distributions())), "distributions installed")
folder = files(module).joinpath("checkpoints")
for checkpoint in folder.iterdir() if folder.is_dir() else ():
    card = checkpoint.joinpath("MODEL_CARD.md").read_text()
    assert card.startswith(f"# {checkpoint.name}\n"), f"{checkpoint.name} has no card of its own"
    print(checkpoint.name, "has its card")
start = time.monotonic()
subprocess.run([package, "--help"], check=True, stdout=subprocess.DEVNULL)
print(f"{package} --help: {time.monotonic() - start:.2f} s")
PY

# Usage: lacks EXTRA COMMAND...; the command must fail with one sentence that names the extra.
lacks() {
  local extra=$1
  shift
  if "$@" 2> said; then
    echo "$* works without $package[$extra]"
    exit 1
  fi
  grep --quiet --fixed-strings "$package[$extra]" said
  test "$(wc -l < said)" -eq 1
}
lacks train "$package" train experiment=debug
lacks train python -m "${package//-/_}" train experiment=debug
