#!/usr/bin/env bash
# Checks the chart in charts/ssd: what `make chart` runs.
#
#   ci/chart.sh [CHECK...]      all by default: facts settings files readme lint unit alerts dashboard render lab
#                               subchart rolling upgrade missing nulls closed package scripts
#   ci/chart.sh write-readme    writes the chart's README.md from values.yaml and README.md.gotmpl
#   ci/chart.sh write-defaults  writes charts/ssd/files/defaults.json from values.yaml
#   ci/chart.sh write-model     writes the SHA-256 of the model that ships into charts/ssd/ci
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
chart=charts/ssd
icon=server/assets/playground/icon.svg
# These values download the model that ships, and so contain its SHA-256.
model=weights/ssd_mobilenet_v2_oidv4.safetensors
model_values=("$chart/ci/model-url-values.yaml" "$chart/ci/model-pvc-values.yaml")
checks=(facts settings files readme lint unit alerts dashboard render lab subchart rolling upgrade missing nulls closed package scripts)

command -v sha256sum >/dev/null || sha256sum() { shasum -a 256 "$@"; } # macOS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() {
    echo "ci/chart.sh: $*" >&2
    exit 1
}

# refused TEXT COMMAND...: the command must fail with an error that contains TEXT.
refused() {
    local text=$1
    shift
    if "$@" >"$work/refused" 2>&1; then
        die "not refused: $*"
    fi
    grep -qF -- "$text" "$work/refused" || die "failed, but its error does not contain '$text': $*: $(cat "$work/refused")"
}

rendered() { helm template ssd "$chart" --namespace demo "$@"; }

# Facts that are written in two places must be equal.
facts() {
    local version app_version oldest values
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
    app_version=$(sed -n 's/^appVersion: "\(.*\)"$/\1/p' $chart/Chart.yaml)
    [ "$version" = "$app_version" ] || die "Cargo.toml has version $version, $chart/Chart.yaml has appVersion $app_version"
    cmp data/coco_labels.txt $chart/files/coco_labels.txt || die "copy data/coco_labels.txt to $chart/files"
    defaults | cmp - $chart/files/defaults.json || die "$chart/files/defaults.json differs from values.yaml: run ci/chart.sh write-defaults"
    [ "$(sed -n 's/^icon: .*base64,//p' $chart/Chart.yaml)" = "$(base64 <$icon | tr -d '\n')" ] || die "the icon in $chart/Chart.yaml is not $icon"
    oldest=$(sed -n 's/^kubeVersion: ">=\(.*\)\.0-0"$/\1/p' $chart/Chart.yaml)
    [ -d ".tools/schemas/kubernetes-$oldest" ] || die "ci/tools/schemas.txt lacks Kubernetes $oldest, the oldest version that Chart.yaml supports"
    if [ -f $model ]; then
        for values in "${model_values[@]}"; do
            [ "$(grep -o '[0-9a-f]\{64\}' "$values" | sort -u)" = "$(sha256sum $model | cut -d' ' -f1)" ] ||
                die "$values does not have the SHA-256 of $model: run ci/chart.sh write-model"
        done
    fi
}

# The values that the chart cannot do without, and restores if they are set to null. (A template cannot read values.yaml.
# Without the optional ones, Kubernetes' defaults apply.)
defaults() {
    .tools/python/bin/python - $chart/values.yaml <<'PYTHON'
import json, sys, yaml

values = yaml.safe_load(open(sys.argv[1]))
optional = ("nodeSelector", "podSecurityContext", "resources", "securityContext")
needed = {key: value for key, value in values.items() if key not in optional and value not in ("", [], {})}
print(json.dumps(needed, indent=2))
PYTHON
}

write_model() {
    local sha256 values
    sha256=$(sha256sum $model | cut -d' ' -f1)
    for values in "${model_values[@]}"; do
        sed "s/[0-9a-f]\{64\}/$sha256/g" "$values" >"$work/values"
        cp "$work/values" "$values"
    done
}

# The settings have the server's names, ranges and defaults, except the defaults of HOST, DRAIN_DELAY, LOG_FORMAT, the
# paths and the credentials.
settings() { .tools/python/bin/python ci/chart/settings_test.py; }

# yamllint and shellcheck. `make lint` checks the repository's other scripts.
files() {
    yamllint --strict $chart ct.yaml ci
    shellcheck ci/chart.sh ci/tools.sh
    shellcheck --shell=sh $chart/files/download-model.sh
}

write_readme() { helm-docs --chart-search-root "$1" --sort-values-order file --log-level warning; }

readme() {
    cp -R charts "$work/docs"
    write_readme "$work/docs"
    diff -u $chart/README.md "$work/docs/ssd/README.md" || die "README.md differs from values.yaml and README.md.gotmpl: run ci/chart.sh write-readme"
}

lint() {
    ct lint --config ct.yaml --all >"$work/ct" 2>&1 || { cat "$work/ct"; return 1; }
    tail -n 1 "$work/ct"
}

unit() {
    helm-unittest --strict $chart >"$work/unit" 2>&1 || { cat "$work/unit"; return 1; }
    grep '^Test' "$work/unit"
    .tools/python/bin/python - $chart/tests/*_test.yaml <<'PYTHON'
import sys, yaml

tests = [test for name in sys.argv[1:] for test in yaml.safe_load(open(name))["tests"]]
print("Assertions: ", sum(len(test["asserts"]) for test in tests))
PYTHON
}

# Each alert fires only when it should.
alerts() {
    rendered --set metrics.enabled=true,metrics.prometheusRule.enabled=true --show-only templates/prometheusrule.yaml |
        .tools/python/bin/python -c 'import sys, yaml; yaml.safe_dump(yaml.safe_load(sys.stdin)["spec"], sys.stdout)' >"$work/rules.yaml"
    promtool check rules --lint=all --lint-fatal "$work/rules.yaml" >"$work/promtool" 2>&1 || { cat "$work/promtool"; return 1; }
    cp ci/chart/alerts_test.yaml "$work"
    promtool test rules "$work/alerts_test.yaml" >"$work/promtool" 2>&1 || { cat "$work/promtool"; return 1; }
}

dashboard() {
    .tools/python/bin/python ci/chart/dashboard_test.py >"$work/dashboard.yaml"
    promtool check rules "$work/dashboard.yaml" >"$work/promtool" 2>&1 || { cat "$work/promtool"; return 1; }
}

# Finds trailing spaces, empty lines inside an object, and missing values.
untidy() { grep -nE '[[:space:]]+$|<no value>|: null$|^$' "$1"; }

# Renders VALUES-FILE with both versions of Helm, and validates it for the oldest and the newest Kubernetes.
render_one() { # VALUES-FILE
    local values=$1 name kubernetes
    name=$(basename "$values" -values.yaml)
    helm lint --quiet --strict --values "$values" $chart >"$work/lint" 2>&1 || { cat "$work/lint"; return 1; }
    if [ "$name" = generated ]; then
        refused "auth.existingSecret: ssd-credentials" rendered --values "$values"
        return
    fi
    # Only Helm itself still needs the release's namespace.
    if rendered --values "$values" --set namespaceOverride=cameras | grep -v 'helm rollback --namespace demo' | grep demo; then
        die "$values renders these lines with the release's namespace in place of namespaceOverride"
    fi
    rendered --values "$values" >"$work/$name.yaml"
    helm4 template ssd $chart --namespace demo --values "$values" >"$work/helm4.yaml"
    # Helm 4 writes an empty line before each ---.
    diff --ignore-blank-lines "$work/$name.yaml" "$work/helm4.yaml" || die "Helm 3 and Helm 4 render $values differently"
    if untidy "$work/$name.yaml"; then
        die "$values is rendered untidily"
    fi
    for kubernetes in .tools/schemas/kubernetes-*; do
        # The oldest supported Kubernetes has no OCI image volumes.
        [ "$name" = model-oci ] && [[ $kubernetes = *-1.30 ]] && continue
        kubeconform -strict -schema-location "$kubernetes/{{ .ResourceKind }}{{ .KindSuffix }}.json" \
            -schema-location '.tools/schemas/custom/{{ .ResourceKind }}{{ .KindSuffix }}.json' "$work/$name.yaml"
    done
    if [ -n "$(command -v pod-security)" ]; then
        pod-security restricted <"$work/$name.yaml" >/dev/null
    fi
}

render() {
    local values
    for values in "$chart"/ci/*-values.yaml "$chart"/tests/values/*-values.yaml; do
        render_one "$values"
    done
    refused 'chart requires kubeVersion' helm template ssd $chart --kube-version 1.29.0
}

# The lab shows what Helm renders.
lab() { .tools/python/bin/python ci/lab.py rendered >"$work/lab" || { cat "$work/lab"; return 1; }; }

# The chart as a dependency: under two aliases, with a condition and a parent's global values.
subchart() {
    local parent=$work/parent
    mkdir -p "$parent/templates"
    cat >"$parent/Chart.yaml" <<YAML
apiVersion: v2
name: parent
version: 1.0.0
dependencies:
  - {name: ssd, version: "*", alias: day, condition: day.enabled, repository: "file://$PWD/$chart"}
  - {name: ssd, version: "*", alias: nightShift, condition: nightShift.enabled, repository: "file://$PWD/$chart"}
  - {name: ssd, version: "*", condition: ssd.enabled, repository: "file://$PWD/$chart"}
YAML
    cat >"$parent/values.yaml" <<YAML
global: {imageRegistry: registry.example.com}
day: {enabled: true, server: {threshold: 0.9}}
nightShift: {enabled: true, server: null}
ssd: {enabled: false}
YAML
    helm dependency update "$parent" >/dev/null
    helm template cameras "$parent" >"$work/subcharts.yaml"
    helm4 template cameras "$parent" | diff --ignore-blank-lines "$work/subcharts.yaml" - || die "Helm 3 and Helm 4 differ for subcharts"
    [ "$(grep -c '^kind: Deployment' "$work/subcharts.yaml")" = 2 ] || die "two aliases do not create two Deployments"
    [ -z "$(awk '/^kind: /{kind=$2} /^  name: /{print kind, $2}' "$work/subcharts.yaml" | sort | uniq -d)" ] || die "two aliases create objects with the same name"
    [ "$(grep -c 'app.kubernetes.io/name: nightshift$' "$work/subcharts.yaml")" -gt 5 ] || die "an alias is not in the labels"
    if grep ' image: ' "$work/subcharts.yaml" | grep -v ' registry.example.com/'; then
        die "these images are not from the parent's global.imageRegistry"
    fi
    refused "additional properties 'treshold' not allowed" helm template cameras "$parent" --set day.server.treshold=1
}

# checksum ANNOTATION [ARGUMENT...]: the value of the pods' checksum, rendered with the arguments.
checksum() {
    local annotation=$1
    shift
    rendered --show-only templates/deployment.yaml "$@" | sed -n "s|^ *checksum/$annotation: ||p"
}

# pods CHART: the Deployment's pod template.
pods() { helm template ssd "$1" --namespace demo --show-only templates/deployment.yaml | sed -n '/^  template:/,$p'; }

# The pods are replaced when a setting that they read changes, and only then.
rolling() {
    local annotation argument
    while read -r annotation argument; do
        [ -n "$(checksum "$annotation")" ] || die "no checksum/$annotation"
        [ "$(checksum "$annotation")" != "$(checksum "$annotation" --set "$argument")" ] || die "$argument does not change checksum/$annotation"
    done <<'CASES'
env-vars server.threshold=0.7
env-vars model.path=weights/other.pth
coco-labels cocoLabels.inline=1\,1\,cat
credentials auth.password=other
credentials auth.username=other
CASES
    diff <(rendered --show-only templates/deployment.yaml) \
        <(rendered --show-only templates/deployment.yaml --set service.port=8080,tests.enabled=false,networkPolicy.enabled=false) ||
        die "a value that the pods do not read changes their checksums"
    # The chart's version is in the labels of the ConfigMaps, but not in their checksums.
    cp -R $chart "$work/newer"
    sed -i.bak 's/^version: .*/version: 99.0.0/' "$work/newer/Chart.yaml"
    diff <(pods $chart) <(pods "$work/newer") || die "a new version of the chart alone replaces the pods"
}

# Without one of its files, the chart must fail with an error.
missing() {
    local file text options
    while IFS='|' read -r file text options; do
        rm -rf "$work/without"
        cp -R $chart "$work/without"
        rm "$work/without/files/$file"
        # shellcheck disable=SC2086 # several words
        refused "$text" helm template ssd "$work/without" $options
    done <<CASES
coco_labels.txt|The chart has no files/coco_labels.txt|
defaults.json|The chart has no files/defaults.json|
sample.jpg|The chart has no files/sample.jpg|
dashboard.json|The chart has no files/dashboard.json|--set metrics.enabled=true,metrics.dashboard.enabled=true
download-model.sh|The chart has no files/download-model.sh|--set model.url=https://example.com/m,model.sha256=$(printf %064d 1 | tr 0 a)
CASES
}

# The packaged chart renders like the folder, although .helmignore leaves files out. It must be small, because each
# release stores the chart in a Secret.
package() {
    local archive
    helm package $chart --destination "$work" >/dev/null
    archive=$(ls "$work"/ssd-*.tgz)
    tar -tzf "$archive" >"$work/listing"
    grep -q '^ssd/values.schema.json$' "$work/listing" || die "the package lacks values.schema.json"
    if grep -E '^ssd/(ci|tests)/|gotmpl$' "$work/listing"; then
        die "the package contains files for its developers"
    fi
    [ "$(wc -c <"$archive")" -lt 200000 ] || die "the package is larger than 200 kB"
    diff <(helm template ssd "$archive" --namespace demo) <(rendered) || die "the package renders differently from the folder"
}

# A namespace that denies connections by default and has a ResourceQuota accepts every pod.
closed() { .tools/python/bin/python ci/chart/closed_namespace_test.py; }

upgrade() { .tools/python/bin/python ci/chart/upgrade_test.py; }

nulls() { .tools/python/bin/python ci/chart/null_values_test.py; }

# Runs the shell scripts of the chart against servers on loopback.
scripts() {
    local name
    command -v curl >/dev/null || die "needs curl (Debian, Ubuntu: sudo apt-get install curl)"
    for name in download_model test_pods; do
        .tools/python/bin/python "ci/chart/${name}_test.py" >"$work/$name" 2>&1 || { cat "$work/$name"; return 1; }
        echo "$name: $(grep '^Ran ' "$work/$name")"
    done
}

case ${1-} in
    write-readme)
        ci/tools.sh helm-docs
        PATH=$PWD/.tools/bin:$PATH write_readme charts
        exit
        ;;
    write-defaults)
        ci/tools.sh yamllint
        defaults >"$work/defaults"
        cp "$work/defaults" $chart/files/defaults.json
        exit
        ;;
    write-model)
        write_model
        exit
        ;;
esac
ci/tools.sh helm helm4 ct helm-unittest helm-docs kubeconform promtool schemas yamllint yamale shellcheck
if command -v go >/dev/null; then
    ci/tools.sh pod-security
else
    echo "chart: pods are not compared with the restricted profile: pod-security needs Go, which is not installed" >&2
fi
export PATH=$PWD/.tools/bin:$PATH
for check in "${@:-${checks[@]}}"; do
    case " ${checks[*]} " in *" $check "*) ;; *) die "no check '$check': ${checks[*]}" ;; esac
    start=$SECONDS
    echo "chart: $check"
    "$check"
    echo "chart: $check: passed ($((SECONDS - start)) s)"
done
