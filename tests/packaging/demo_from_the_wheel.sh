#!/bin/sh
# The wheel with all extras in a clean environment outside the checkout, and `nvp demo` there. Takes minutes.
#
#   make test-wheel
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$checkout/.venv/bin/python" -m build --wheel --no-isolation --outdir "$place" "$checkout" > /dev/null
"${PYTHON:-python3}" -m venv "$place/venv"
for wheel in "$place"/*.whl; do
  "$place/venv/bin/python" -m pip --disable-pip-version-check install -q -c "$checkout/constraints.txt" "$wheel[all]"
done
cd "$place"
venv/bin/nvp demo "$@"
venv/bin/nvp verify .nvp/demo/certificate.json
