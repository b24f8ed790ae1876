"""Renders the chart for an install and for the upgrade after it, against a server that plays the cluster's API.

The upgrade finds the objects of the install. With the same values it must render the same: otherwise each upgrade
would replace the pods, or a generated password.
"""

import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import yaml

CHART = pathlib.Path(__file__).parents[2] / "charts/ssd"
VALUES = ["", "auth.password=x", "auth.generate=true", "auth.generate=true,namespaceOverride=cameras", "auth.existingSecret=login"]
KINDS = {
    "v1": {
        "ConfigMap": "configmaps", "Namespace": "namespaces", "Secret": "secrets", "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
}


def api(version):
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


DISCOVERY = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {"name": version.split("/")[0], "versions": [{"groupVersion": version, "version": "v1"}]} for version in KINDS if "/" in version
        ],
    },
} | {
    api(version): {
        "kind": "APIResourceList",
        "groupVersion": version,
        "resources": [{"name": name, "namespaced": kind != "Namespace", "kind": kind, "verbs": ["get"]} for kind, name in kinds.items()],
    }
    for version, kinds in KINDS.items()
}
EMPTY_CLUSTER = {"/api/v1/namespaces/kube-system": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}}
NOT_FOUND = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}


class Cluster(http.server.BaseHTTPRequestHandler):
    objects: dict = {}

    def do_GET(self):
        found = (DISCOVERY | self.objects).get(self.path.split("?")[0])
        body = json.dumps(found or NOT_FOUND).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def installed(objects):
    """The objects by their paths in the API."""
    return {
        "/".join([
            api(item["apiVersion"]), "namespaces", item["metadata"]["namespace"],
            KINDS[item["apiVersion"]][item["kind"]], item["metadata"]["name"],
        ]): item
        for item in yaml.safe_load_all(objects)
    }


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wrong = []
    # Helm keeps what it learns of a cluster in its home.
    with tempfile.TemporaryDirectory() as home:
        def rendered(program, values, *options):
            return subprocess.run(
                [program, "template", "ssd", str(CHART), "--namespace", "demo", "--skip-tests", "--dry-run=server",
                 "--disable-openapi-validation", "--kube-apiserver", f"http://127.0.0.1:{server.server_port}", "--kubeconfig", "/dev/null", "--set", values, *options],
                stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"HOME": home},
            ).stdout

        for program in ("helm", "helm4"):
            for values in VALUES:
                Cluster.objects = EMPTY_CLUSTER
                install = rendered(program, values)
                if "generate" in values and install == rendered(program, values):
                    wrong.append(f"{program} --set '{values}': two installs have the same password")
                Cluster.objects = EMPTY_CLUSTER | installed(install)
                if install != rendered(program, values, "--is-upgrade"):
                    wrong.append(f"{program} --set '{values}': an upgrade with the same values changes objects")
    print("\n".join(wrong) or f"{2 * len(VALUES)} installs rendered, and their upgrades alike")
    sys.exit(bool(wrong))


main()
