#!/bin/sh
# A Git hook without any framework: validates the manifests as they are about to be committed.
#   cp pre-commit.sh .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
# What is staged counts, not what lies in the work tree, and all of it: duplicates show only side by side.
set -eu
manifests=${FLEET_DIR:-bots}
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
git diff --cached --quiet -- "$manifests" && exit 0
mkdir -p "$staged/$manifests"
git ls-files -z -- "$manifests" | git checkout-index -z --stdin --prefix="$staged/"
cd "$staged"
campos-operator validate "$manifests"
