#!/usr/bin/env bash
# What one writes first: a loop of inotifywait, yq and curl that stops and starts apps as their manifests say.
#
#     CAMPOSCLOUD_TOKEN=... watch.sh MANIFESTS URL
#
# It does the operator's main job and nothing else: no retry, no check whether a call took effect, no limit of the
# account. What it misses while it is not running stays missed.
set -u
manifests=$1 url=$2

inotifywait --quiet --monitor --recursive --event close_write,moved_to --format '%w%f' "$manifests" |
    while IFS= read -r file; do
        case $file in *.yaml | *.yml) ;; *) continue ;; esac
        read -r id state < <(yq -r '.spec.appId + " " + .spec.state' "$file") || continue
        case $state in Stopped) action=stop ;; Running) action=start ;; *) continue ;; esac
        curl --silent --show-error --output /dev/null --request POST \
            --header "Authorization: Bearer $CAMPOSCLOUD_TOKEN" "$url/v1/apps/$id/$action"
    done
