#!/bin/sh
# ci/plain.sh: any CI, any container, any user. Only what `run` steps get depends on where it is.
set -eu
# A folder that the CI saves after a job and restores before the next.
export BOXWRIGHT_STORE="${BOXWRIGHT_STORE:-$PWD/.boxwright}"

# Says which tier `run` has here, and how it gets a better one.
boxwright doctor
printf %s "$REGISTRY_PASSWORD" |
    boxwright login --username "$REGISTRY_USER" --password-stdin "$REGISTRY"
boxwright build -o oci-archive:app.tar
# Stops at what has no business in an image.
boxwright check app.tar
boxwright push app.tar "$REGISTRY/acme/app:$COMMIT"
# What is saved stays small; trees are worth nothing elsewhere.
boxwright cache gc --trees --max-size 2GB
