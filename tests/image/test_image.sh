#!/usr/bin/env bash
# Build the Dockerfile with buildah, without an engine, and use the image as a user without a name:
# `tsjt doctor`, a short training, its evaluation. Needs root, buildah, and 15 GB under SCRATCH.
#
#   BASE           image to build on; default: a Debian bookworm that debootstrap makes
#   BUILD_OPTIONS  more options for `buildah bud`, as --build-arg and --volume for another index
#   SCRATCH        where all of it lies until it ends; default: TMPDIR, or /tmp
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    echo "test-image: skipped: $1"
    exit 0
}

[ "$(id -u)" = 0 ] || skip "only root can build with chroot isolation"
command -v buildah > /dev/null || skip "there is no buildah (Debian's package buildah)"
[ -n "${BASE:-}" ] || command -v debootstrap > /dev/null ||
    skip "there is no debootstrap to make a base with (install it, or name a BASE)"

scratch=$(mktemp -d "${SCRATCH:-${TMPDIR:-/tmp}}/tsjt-image.XXXXXX")
export BUILDAH_ISOLATION=chroot
store() {
    buildah --root "$scratch/storage" --runroot "$scratch/run" --storage-driver vfs "$@"
}
clean_up() {
    store rm --all > /dev/null 2>&1 || true
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT

make_base() {
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        bookworm "$scratch/base" > "$scratch/debootstrap.log" ||
        { tail -n 20 "$scratch/debootstrap.log" && return 1; }
    rm -rf "$scratch"/base/var/cache/apt/archives/*.deb "$scratch"/base/var/lib/apt/lists/*
    container=$(store from scratch)
    store add --quiet "$container" "$scratch/base" / > /dev/null
    store config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    store commit --quiet --rm "$container" tsjt-base > /dev/null
    rm -rf --one-file-system "$scratch/base"
}

make_digits() {
    mkdir "$scratch/digits"
    python3 - "$scratch/digits" << 'PYTHON'
import sys
from pathlib import Path

from tests.system.digits import digits_recipe, write_digits

directory = Path(sys.argv[1])
write_digits(directory, train=600)
recipe = digits_recipe(Path("/digits"), steps=30)
recipe = recipe.replace("/digits/prepared", "prepared/digits").replace("/digits/run", "runs/digits")
(directory / "digits.yaml").write_text(recipe)
PYTHON
    cp tests/image/smoke.sh "$scratch/digits"
    chmod -R a+rX "$scratch/digits"
}

if [ -z "${BASE:-}" ]; then
    echo "test-image: making a base with debootstrap"
    make_base
    BASE=localhost/tsjt-base
fi
echo "test-image: building on $BASE"
# shellcheck disable=SC2086  # Several words on purpose.
store bud --format docker --build-arg BASE="$BASE" ${BUILD_OPTIONS:-} --tag tsjt . \
    > "$scratch/build.log" 2>&1 || { tail -n 40 "$scratch/build.log" && exit 1; }

container=$(store from localhost/tsjt)
store inspect --type image localhost/tsjt | grep -q '"Healthcheck"'
[ "$(store run "$container" -- id -u)" = 1000 ]
echo "test-image: tsjt doctor, as the image's own user"
store run "$container" -- tsjt doctor

echo "test-image: 30 steps and an evaluation, as user 12345"
make_digits
store copy --quiet "$container" "$scratch/digits" /digits > /dev/null
store run --user 12345:12345 "$container" -- sh /digits/smoke.sh

echo "test-image: passed; the image has $(store images --format '{{.Size}}' localhost/tsjt)"
