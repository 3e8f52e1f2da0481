#!/usr/bin/env bash
# Run the image of deploy/Dockerfile as docs/serving.md says, with a tiny model: bash deploy/check_image.sh zebra
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
folder=$(mktemp -d)
container=
clean_up() {
  [ -z "$container" ] || { docker logs "$container"; docker rm --force "$container" >/dev/null; }
  rm -rf "$folder"
}
trap clean_up EXIT
docker run --rm --user "$(id -u)" --entrypoint python --volume "$PWD/tests:/tests:ro" --volume "$folder:/out" "$image" -c \
  "import sys; sys.path.insert(0, '/tests'); import pathlib, tiny_model; tiny_model.save_tiny_model(pathlib.Path('/out/model'))"
chmod -R a+rX "$folder"
container=$(docker run --detach --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
  --publish 127.0.0.1:8000:8000 --volume "$folder/model:/model:ro" "$image")
for _ in $(seq 60); do
  curl --silent --fail http://127.0.0.1:8000/readyz && break
  sleep 1
done
curl --silent --show-error --fail --form image=@docs/images/page-light.png http://127.0.0.1:8000/v1/embed >/dev/null
docker stop --time 40 "$container" >/dev/null
[ "$(docker inspect --format '{{.State.ExitCode}}' "$container")" = 0 ]
