"""Compares the chart's settings with the server's: names, defaults and ranges.

The server's settings are the table in README.md, which a test of the server compares with the program.
"""

import json
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "charts/ssd"
TABLE = re.compile(r"<!-- settings: written by make docs -->(.*)<!-- /settings -->", re.DOTALL)
ROW = re.compile(r"^\| `([A-Z_]+)` \| `(.*?)` \| .* \| (.*) \|$", re.MULTILINE)
VALUE = re.compile(r"^  ([A-Z_]+): .*?\.Values\.([\w.]+)", re.MULTILINE)
NUMBERS = re.compile(r"a (whole )?number from ([\d.]+) to ([\d.]+)")
SIZES = re.compile(r"a size from (.+?) to (.+?),")
TIMES = re.compile(r"a time (?:from (\S+) to|up to) ([^:\s]+)")
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
# Defaults that differ in a container, or that do not come from server.*.
OTHER_DEFAULT = re.compile("HOST|COCO_LABELS_PATH|WEIGHTS_PATH|TLS_.*|DRAIN_DELAY|LOG_FORMAT|SECRET_.*")
# For 0 the server picks a free port, but a Service needs a fixed one.
NARROWER = {"PORT": ("integer", 1, 65535), "MANAGEMENT_PORT": ("integer", 1, 65535)}

schema = json.loads((CHART / "values.schema.json").read_text())
wrong = []


def server_settings():
    """By variable: the default and the accepted values."""
    table = TABLE.search((ROOT / "README.md").read_text())
    rows = ROW.findall(table[1]) if table else []
    if not rows:
        sys.exit("ci/chart.sh: README.md has no table of settings between its marks: run make docs")
    return {variable: (default, accepts) for variable, default, accepts in rows}


def chart_variables():
    """By variable: the value that the chart renders; None for the credentials."""
    command = ["helm", "template", "ssd", str(CHART), "--set", "model.path=some.pth,tls.secretName=some"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered)}
    container = objects["Deployment", "ssd"]["spec"]["template"]["spec"]["containers"][0]
    return objects["ConfigMap", "ssd-env-vars"]["data"] | {each["name"]: None for each in container["env"]}


def parts(node):
    """The alternatives and conditions of a schema, with references resolved."""
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].removeprefix("#/definitions/")]
    nested = node.get("anyOf", []) + node.get("allOf", [])
    return [part for each in nested for part in parts(each)] or [node]


def of_value(path):
    node = schema
    for key in path.split("."):
        node = node["properties"][key]
    return parts(node)


def amount(text):
    """Bytes or milliseconds of a text such as `1 KiB` or `1h`."""
    number, unit = re.fullmatch(r"(\d+) ?(\w+)", text).groups()
    return int(number) * UNITS[unit]


def numbers(variable, accepts):
    """Type, minimum and maximum of the numbers or bytes that the server accepts, or None."""
    if found := NUMBERS.search(accepts):
        kind, number = ("integer", int) if found[1] else ("number", float)
        return NARROWER.get(variable) or (kind, number(found[2]), number(found[3]))
    if found := SIZES.search(accepts):
        least = SIZES.search(settings[found[1]][1])[1] if found[1] in settings else found[1]
        return "integer", amount(least), amount(found[2])
    return None


def compare_range(variable, accepts, path):
    """Compares the server's range with the schema of the value at `path`; whether there is a range."""
    source = f"{variable} accepts {accepts} (README.md), but values.schema.json"
    allowed = of_value(path)
    found = [
        (each["type"], each.get("minimum"), each.get("maximum"))
        for each in allowed
        if each.get("type") in ("integer", "number")
    ]
    wanted, times = numbers(variable, accepts), TIMES.search(accepts)
    if found != ([wanted] if wanted else []):
        ranges = " and ".join(f"{kind} from {least} to {most}" for kind, least, most in found) or "no range"
        wrong.append(f"{source} has {ranges} for {path}")
    if times:
        least, most = amount(times[1]) if times[1] else 0, amount(times[2]) // 1000
        for text, fits in {f"{least - 1}ms": False, f"{least}ms": True, f"{most}s": True, f"{most + 1}s": False}.items():
            if all(re.search(each["pattern"], text) for each in allowed) != fits:
                wrong.append(f"{source} {'refuses' if fits else 'accepts'} {text} for {path}")
    return bool(wanted or times)


settings, variables = server_settings(), chart_variables()
values = dict(VALUE.findall((CHART / "templates/cm-env-vars.yaml").read_text()))
for variable in settings.keys() - variables:
    wrong.append(f"README.md has the setting {variable}, but templates/cm-env-vars.yaml does not set it")
for variable in variables.keys() - settings:
    wrong.append(f"templates/cm-env-vars.yaml sets {variable}, which is no setting in README.md")
extra = [f"extraEnv[{index}].name={name}" for index, name in enumerate(sorted(variables))]
refusal = subprocess.run(
    ["helm", "template", "ssd", str(CHART), "--set", ",".join(extra)], capture_output=True, text=True, check=False
).stderr
for variable in variables:
    if f"extraEnv sets {variable}, which the chart sets: use " not in refusal:
        wrong.append(f"extraEnv may set {variable}, which the chart also sets: add it to ssd.checkEnvironment")
compared = 0
for variable in settings.keys() & variables.keys():
    default, accepts = settings[variable]
    if not OTHER_DEFAULT.fullmatch(variable) and (variables[variable] or "(unset)") != default:
        wrong.append(f"{variable} is {default} by default in README.md, and {variables[variable]} in values.yaml")
    if variable in values and compare_range(variable, accepts, values[variable]):
        compared += 1
    elif re.search(" from | to ", accepts):
        wrong.append(f"{variable} accepts {accepts} (README.md), but ci/chart/settings_test.py finds no range to compare")
for each in sorted(wrong):
    print(f"charts/ssd: {each}", file=sys.stderr)
print(f"settings: {len(settings)} names, {compared} ranges")
sys.exit(bool(wrong))
