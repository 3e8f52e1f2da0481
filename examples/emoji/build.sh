#!/bin/sh
# Draw emoji, train on their names in twenty languages, and embed the drawings of an artist that the model has not seen.
#
#   sh examples/emoji/build.sh [OUT] [FLAG OF zebra train ...]
set -e
here=$(dirname "$0")
out=${1:-runs/emoji}
[ $# -eq 0 ] || shift
evaluation=$out/world/evaluation
[ -d "$evaluation" ] || python "$here/../../benchmarks/emoji.py" "$here" --out "$out/world"
zebra train --recipe "$here/recipe.yaml" --model.image-size 32 --model.text.vocab-size 8192 \
    --data "$out/world/train.csv" --out "$out/run" \
    --eval-sets "$evaluation/unseen-artist" "$evaluation/unseen-concepts" "$@"
zebra embed "$out/run/model" "$evaluation/names-en/test/0.tar" --out "$out/store"
