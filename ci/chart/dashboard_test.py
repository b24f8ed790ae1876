"""Checks the layout of the Grafana dashboard, and prints its expressions as rules for promtool.

server/tests/api/metrics.rs checks that the server has its metrics and labels.
"""

import itertools
import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "charts/ssd"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
dashboard = json.loads((CHART / "files/dashboard.json").read_text())
defaults = yaml.safe_load((CHART / "values.yaml").read_text())["metrics"]["prometheusRule"]
panels = dashboard["panels"]
drawn = [panel for panel in panels if panel["type"] != "row"]
variables = [variable["name"] for variable in dashboard["templating"]["list"]]
wrong = []


def check(right, what):
    if not right:
        wrong.append(what)


def cells(panel):
    at = panel["gridPos"]
    return itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))


check(variables == ["datasource", "namespace", "service", "pod"], f"the variables are {variables}")
check(len({panel["id"] for panel in panels}) == len(panels), "two panels have the same id")
taken = [cell for panel in panels for cell in cells(panel)]
check(len(set(taken)) == len(taken), "two panels overlap")
check(max(x for x, _ in taken) == 23, "the panels do not fill the width of 24")
for variable in dashboard["templating"]["list"][1:]:
    check(variable["datasource"] == DATASOURCE, f"the variable {variable['name']} names a data source")
for panel in drawn:
    title = panel["title"]
    check(panel["datasource"] == DATASOURCE, f"{title} names a data source")
    check(len(panel["description"]) > 30, f"{title} is not described")
    check(panel["type"] == "table" or "unit" in panel["fieldConfig"]["defaults"], f"{title} has no unit")
    refs = [target["refId"] for target in panel["targets"]]
    check(refs and len(set(refs)) == len(refs), f"{title} has no targets, or two with the same name")
    for target in panel["targets"]:
        expression = target["expr"]
        check(target["datasource"] == DATASOURCE, f"a target of {title} names a data source")
        check("legendFormat" in target or panel["type"] == "table", f"a target of {title} has no legend")
        check(not re.search(r"\[\d", expression), f"{title} has a fixed range: use $__rate_interval")
        for selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
            for name in variables[1:]:
                check(f'{name}=~"${name}"' in selector[1], f"{title}: {selector[0]} is not selected by ${name}")
        for by in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
            check(re.search(rf"by \([^)]*\b{by}\b", expression), f"{title}: the legend's {by} is not in the series")
# Panels turn red at the default threshold of their alert.
for alert, value in {
    "SsdErrors": defaults["errorRatio"],
    "SsdRefuses": defaults["refusedRatio"],
    "SsdSaturated": defaults["saturationRatio"],
    "SsdSlow": defaults["latencySeconds"],
}.items():
    named = [panel for panel in drawn if alert in panel["description"]]
    check(named, f"no panel shows the threshold of {alert}")
    for panel in named:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        check(steps[-1]["value"] == value, f"{panel['title']} turns red at another value than {alert}")
# The server's routes that detect, and no others, count as predictions.
document = json.loads((CHART.parents[1] / "server/openapi.json").read_text())
alerts = (CHART / "templates/prometheusrule.yaml").read_text()
for source, text in ("the dashboard", json.dumps([panel.get("targets") for panel in panels])), ("the alerts", alerts):
    patterns = set(re.findall(r'route=~\\?"([^"\\]+)', text))
    check(patterns and not re.search(r"route=\\?\"", text), f"{source} selects no routes, or one by its name")
    for pattern in patterns:
        for path, operations in document["paths"].items():
            route = re.sub(r"\{(\w+)\}", r":\1", path)
            check(bool(re.fullmatch(pattern, route)) == ("post" in operations), f"{source}: {pattern} and {route}")
if wrong:
    sys.exit("files/dashboard.json: " + "\nfiles/dashboard.json: ".join(wrong))
expressions = [target["expr"].replace("$__rate_interval", "5m") for panel in drawn for target in panel["targets"]]
rules = [{"record": f"dashboard:{number}", "expr": expression} for number, expression in enumerate(expressions)]
yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
