"""Renders the chart for a namespace whose NetworkPolicies deny everything and whose ResourceQuota bounds CPU and memory.

There a container without requests and limits is refused, and a pod that no policy selects reaches nobody. The pods of
`helm test` must be allowed to reach the server, by their own policy and by the server's.
"""

import pathlib
import subprocess
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "charts/ssd"
# It reads the cluster, which `helm template` does not.
SKIPPED = "generated-values.yaml"


def render(values):
    command = ["helm", "template", "ssd", str(CHART), "--values", str(values)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [each for each in yaml.safe_load_all(run.stdout) if each]


def pods(objects):
    """By name: labels and specification of each pod."""
    for each in objects:
        pod = each["spec"]["template"] if each["kind"] == "Deployment" else each
        if pod.get("kind", "Pod") == "Pod":
            yield each["metadata"]["name"], pod["metadata"]["labels"], pod["spec"]


def selects(selector, labels):
    return selector["podSelector"]["matchLabels"].items() <= labels.items()


def allows(rules, direction, labels, port):
    """Whether a rule allows connections from or to the pod with the labels, on the port."""
    for rule in rules:
        peers = rule.get(direction)
        if any(each["port"] in port for each in rule["ports"]) and (
                peers is None or any("podSelector" in peer and selects(peer, labels) for peer in peers)):
            return True
    return False


def complaints(objects):
    policies = [each["spec"] for each in objects if each["kind"] == "NetworkPolicy"]
    policy, labels_of, ports = {}, {}, {}
    for name, labels, spec in pods(objects):
        for container in spec.get("initContainers", []) + spec["containers"]:
            resources = container.get("resources", {})
            limits = resources.get("limits", {})
            # Kubernetes takes a missing request from the limit.
            for kind, given in (("limits", limits), ("requests", limits | resources.get("requests", {}))):
                for missing in {"cpu", "memory"} - given.keys():
                    yield f"{name}: the container {container['name']} has no {missing} in {kind}"
        chosen = [each for each in policies if selects(each, labels)]
        if len(chosen) != 1 or set(chosen[0]["policyTypes"]) != {"Ingress", "Egress"}:
            yield f"{name}: {len(chosen)} NetworkPolicies select the pod; exactly one must, for ingress and egress"
            continue
        policy[name], labels_of[name] = chosen[0], labels
        ports[name] = [(port["name"], port["containerPort"]) for port in spec["containers"][0].get("ports", [])]
    server, port = next((name, found[0]) for name, found in ports.items() if found)
    for test in policy.keys() - {server}:
        if not allows(policy[test]["egress"], "to", labels_of[server], port):
            yield f"{test}: its NetworkPolicy does not let it connect to the server's port"
        if not allows(policy[server]["ingress"], "from", labels_of[test], port):
            yield f"{test}: the server's NetworkPolicy does not let it in"


files = [each for each in sorted(CHART.glob("ci/*-values.yaml")) + sorted(CHART.glob("tests/values/*-values.yaml"))
         if each.name != SKIPPED]
wrong = [f"{each.relative_to(CHART)}: {complaint}" for each in files for complaint in complaints(render(each))]
for each in wrong:
    print(f"charts/ssd/{each}", file=sys.stderr)
print(f"{len(files)} values files rendered for a closed namespace")
sys.exit(bool(wrong))
