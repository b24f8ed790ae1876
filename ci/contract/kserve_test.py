"""Checks the manifests of docs/kserve.md against KServe's own types, the chart and the server's settings."""

import copy
import pathlib
import re
import unittest

import kserve
import kubernetes
import yaml

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/kserve.md").read_text(encoding="utf-8")
MANIFESTS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)]
CHART = yaml.safe_load((ROOT / "charts/ssd/values.yaml").read_text(encoding="utf-8"))
TYPES = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
PYTHON = {"str": str, "int": int, "bool": bool, "float": float, "object": object, "ResourceQuantity": str}


def typed(name, value, path):
    """The value as a type of KServe or Kubernetes. Unknown fields, missing ones and wrong types are errors."""
    # KServe's types write list[str] and dict(str, str), Kubernetes' List[str] and Dict[str, str].
    if items := re.fullmatch(r"[Ll]ist\[(.*)\]", name):
        return [typed(items[1], item, f"{path}[{index}]") for index, item in enumerate(check(list, value, path))]
    if values := re.fullmatch(r"[Dd]ict.str, (.*).", name):
        return {key: typed(values[1], item, f"{path}.{key}") for key, item in check(dict, value, path).items()}
    if name in PYTHON:
        return check(PYTHON[name], value, path)
    kind = getattr(kserve, name, None) or getattr(kubernetes.client, name)
    attributes = {field: attribute for attribute, field in kind.attribute_map.items()}
    if unknown := check(dict, value, path).keys() - attributes.keys():
        raise TypeError(f"{path}: {name} has no {', '.join(unknown)}")
    return kind(
        **{
            attributes[field]: typed(kind.openapi_types[attributes[field]], item, f"{path}.{field}")
            for field, item in value.items()
        }
    )


def check(kind, value, path):
    if not isinstance(value, kind):
        raise TypeError(f"{path}: {value!r} is not of the type {kind.__name__}")
    return value


class Manifests(unittest.TestCase):
    def setUp(self):
        self.runtime, self.service = MANIFESTS
        [self.container] = self.runtime["spec"]["containers"]
        self.model = self.service["spec"]["predictor"]["model"]

    def test_have_the_fields_of_kserve(self):
        for manifest in MANIFESTS:
            kind = manifest["kind"]
            version = manifest["apiVersion"].removeprefix("serving.kserve.io/")
            self.assertEqual(version.capitalize() + kind, TYPES[kind])
            typed(TYPES[kind], manifest, kind)

    def test_the_check_refuses_what_kserve_does_not_have(self):
        for kind, change, error in (
            ("ServingRuntime", lambda spec: spec.update(protocols=["v2"]), "protocols"),
            ("ServingRuntime", lambda spec: spec["containers"][0].pop("name"), "name"),
            ("ServingRuntime", lambda spec: spec["containers"][0].update(env={}), "env"),
            ("InferenceService", lambda spec: spec["predictor"].update(minReplicas="1"), "minReplicas"),
            ("InferenceService", lambda spec: spec["predictor"]["model"].update(uri=""), "uri"),
        ):
            [manifest] = (copy.deepcopy(each) for each in MANIFESTS if each["kind"] == kind)
            change(manifest["spec"])
            with self.assertRaisesRegex((TypeError, ValueError), error):
                typed(TYPES[kind], manifest, kind)

    def test_fit_each_other(self):
        self.assertEqual(self.model["runtime"], self.runtime["metadata"]["name"])
        self.assertIn(self.model["modelFormat"], self.runtime["spec"]["supportedModelFormats"])
        self.assertIn(self.model["protocolVersion"], self.runtime["spec"]["protocolVersions"])
        name = self.service["metadata"]["name"]
        self.assertIn(f"{self.model['storageUri']}/{name}.safetensors\n", DOCUMENT)

    def test_the_login_is_in_the_secret_that_the_document_creates(self):
        secret, keys = re.search(r"create secret generic (\S+) (.*)", DOCUMENT).groups()
        references = [each["valueFrom"]["secretKeyRef"] for each in self.container["env"] if "valueFrom" in each]
        self.assertEqual({each["name"] for each in references}, {secret})
        self.assertEqual([each["key"] for each in references], re.findall(r"--from-literal=(\w+)=", keys))

    def test_the_pod_is_like_that_of_the_chart(self):
        pod = CHART["podSecurityContext"]
        shared = {key: pod[key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile")}
        self.assertEqual(self.container["securityContext"], shared | CHART["securityContext"])
        self.assertEqual(self.container["resources"], CHART["resources"])
        for probe, path in ("liveness", "/livez"), ("readiness", "/readyz"):
            request = {"httpGet": {"path": path, "port": CHART["server"]["port"]}}
            self.assertEqual(self.container[f"{probe}Probe"], request | CHART["probes"][probe])

    def test_knative_and_kserve_accept_the_container(self):
        self.assertEqual(self.container["name"], "kserve-container")
        # Knative: one port, without a name of its own; `PORT` is reserved, and so are the ports of its proxy.
        self.assertEqual(self.container["ports"], [{"containerPort": CHART["server"]["port"], "protocol": "TCP"}])
        settings = {each["name"]: each.get("value") for each in self.container["env"]}
        self.assertNotIn("PORT", settings)
        self.assertNotIn(settings["MANAGEMENT_PORT"], {"8012", "8013", "8022", "9081", "9088", "9090", "9091"})
        self.assertEqual(settings["MANAGEMENT_PORT"], self.runtime["spec"]["annotations"]["prometheus.kserve.io/port"])
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        self.assertEqual([name for name in settings if f"| `{name}` |" not in readme], [])
        # A pod gets 30 seconds by default.
        self.assertLess(sum(int(settings[name].rstrip("s")) for name in ("DRAIN_DELAY", "DRAIN_TIMEOUT")), 30)


unittest.main()
