"""Sets each value of the chart to null, which takes it away: the chart must do without it, or say what is missing.

A person writes `podAnnotations:` with nothing after it sooner or later.
"""

import concurrent.futures
import pathlib
import subprocess
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "charts/ssd"
# So that as many templates as possible have something to say.
EVERYTHING = [
    "metrics.enabled=true", "metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true", "autoscaling.enabled=true", "ingress.enabled=true", "httpRoute.enabled=true",
    "tls.secretName=a",
    "httpRoute.parentRefs[0].name=a", "gpu.enabled=true", "model.url=https://example.com/m.pth",
    "model.sha256=" + "a" * 64, "model.cache.enabled=true", "model.cache.accessMode=ReadWriteMany",
]
SENTENCES = ("missing property", "cannot be used together")


def paths(values, prefix=""):
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


def complaint(path):
    """What is wrong with how the chart takes a value that is null, or None."""
    command = ["helm", "template", "ssd", str(CHART), "--set", ",".join([*EVERYTHING, f"{path}=null"])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return None if any(sentence in run.stderr for sentence in SENTENCES) else run.stderr
    if ": null\n" in run.stdout or "<no value>" in run.stdout:
        return "null is rendered"
    return None


def main():
    every = list(paths(yaml.safe_load((CHART / "values.yaml").read_text())))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        wrong = [(path, said) for path, said in zip(every, pool.map(complaint, every)) if said]
    for path, said in wrong:
        print(f"{path}=null: {said}", file=sys.stderr)
    print(f"{len(every)} values taken away, {len(wrong)} of them badly missed")
    sys.exit(bool(wrong))


main()
