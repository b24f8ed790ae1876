"""Sets each value of the chart to null: the chart must render without the value, or say what is missing.

In a values file, `podAnnotations:` with nothing after it is null. If the chart needs a value at the top, such as
`server`, null must mean its default. Otherwise null must remove the default, because `{}` does not.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "charts/ssd"
# Values that enable as many templates as possible.
EVERYTHING = [
    "metrics.enabled=true", "metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true", "autoscaling.enabled=true", "ingress.enabled=true", "httpRoute.enabled=true",
    "tls.secretName=a", "auth.password=a",
    "httpRoute.parentRefs[0].name=a", "gpu.enabled=true", "model.url=https://example.com/m.pth",
    "model.sha256=" + "a" * 64, "model.cache.enabled=true", "model.cache.accessMode=ReadWriteMany",
]
# Values whose defaults null removes, and text that is rendered only with their defaults.
OPTIONAL = {"nodeSelector": "nodeSelector:", "podSecurityContext": "runAsNonRoot:", "resources": "memory: 1Gi", "securityContext": "capabilities:"}
MESSAGES = ("missing property", "These values cannot be used")


def paths(values, prefix=""):
    for key, value in values.items():
        path = prefix + key.replace(".", r"\.")
        yield path
        if isinstance(value, dict):
            yield from paths(value, path + ".")


def rendered(program, *options):
    return subprocess.run([program, "template", "ssd", str(CHART), *options], capture_output=True, text=True, check=False)


def has_null(value):
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return value is None or any(has_null(child) for child in children)


def complaint(path):
    """What the chart does wrong when the value is null, or None."""
    run = rendered("helm", "--set", ",".join([*EVERYTHING, f"{path}=null"]))
    if run.returncode != 0:
        return None if any(message in run.stderr for message in MESSAGES) else run.stderr
    if has_null(list(yaml.safe_load_all(run.stdout))) or "<no value>" in run.stdout:
        return "null is rendered"
    return None


def forgotten(key):
    """Whether null is not the default of a value that the chart needs."""
    for program in ("helm", "helm4"):
        if rendered(program, "--set", f"{key}=null").stdout != rendered(program).stdout:
            return f"{program} does not render the default"
    return None


def kept(path, text):
    """Whether null does not remove a default that the chart does not need."""
    return f"{text} is rendered" if text in rendered("helm", "--set", f"{path}=null").stdout else None


def main():
    # Otherwise each case would be refused for a reason of its own.
    if rendered("helm", "--set", ",".join(EVERYTHING)).returncode != 0:
        sys.exit("the chart refuses EVERYTHING even without a null")
    every = list(paths(yaml.safe_load((CHART / "values.yaml").read_text())))
    needed = list(json.loads((CHART / "files/defaults.json").read_text()))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        wrong = [(path, message) for path, message in zip(every, pool.map(complaint, every)) if message]
        wrong += [(key, message) for key, message in zip(needed, pool.map(forgotten, needed)) if message]
    wrong += [(path, message) for path, text in OPTIONAL.items() if (message := kept(path, text))]
    for path, message in wrong:
        print(f"{path}=null: {message}", file=sys.stderr)
    print(f"{len(every)} values set to null, {len(wrong)} of them handled badly")
    sys.exit(bool(wrong))


main()
