#!/bin/sh
# A Git hook without a framework. It validates the staged manifests before a commit.
#   cp pre-commit.sh .git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
# It validates all staged files, not the work tree, because duplicates show only side by side.
set -eu
manifests=${FLEET_DIR:-bots}
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
git diff --cached --quiet -- "$manifests" && exit 0
mkdir -p "$staged/$manifests"
git ls-files -z -- "$manifests" | git checkout-index -z --stdin --prefix="$staged/"
cd "$staged"
campos-operator validate "$manifests"
