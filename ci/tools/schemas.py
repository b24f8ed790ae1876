"""Makes the JSON schemas that kubeconform reads, stricter than the sources: unknown keys are errors.

usage: schemas.py SOURCE FOLDER

SOURCE is Kubernetes' OpenAPI document (.json in content) or a CustomResourceDefinition (YAML).
Writes FOLDER/KIND-GROUP-VERSION.json, or FOLDER/KIND-VERSION.json for the core group.
"""

import json
import pathlib
import sys

import yaml

# Kinds whose OpenAPI type is narrower than what the API server reads.
LOOSER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def strict(node):
    """A copy of a schema in which an object with named properties has no others."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    out = {key: strict(value) for key, value in node.items() if not key.startswith("x-kubernetes-")}
    named = isinstance(node.get("properties"), dict)
    if named and "additionalProperties" not in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


def referenced(schema, definitions, found):
    """Collects into `found` every definition that `schema` needs, however far away."""
    if isinstance(schema, list):
        for item in schema:
            referenced(item, definitions, found)
    elif isinstance(schema, dict):
        name = schema.get("$ref", "")
        name = name.removeprefix("#/definitions/") if isinstance(name, str) else ""
        if name and name not in found:
            found[name] = definitions[name]
            referenced(definitions[name], definitions, found)
        for value in schema.values():
            referenced(value, definitions, found)
    return found


def file_name(group, version, kind):
    parts = [kind, group.split(".")[0], version] if group else [kind, version]
    return "-".join(parts).lower() + ".json"


def from_openapi(document):
    definitions = {name: strict(schema) for name, schema in document["definitions"].items()} | LOOSER
    for name, schema in document["definitions"].items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            # Types such as DeleteOptions belong to every group; no manifest has them.
            if len(schema["x-kubernetes-group-version-kind"]) == 1:
                yield file_name(gvk["group"], gvk["version"], gvk["kind"]), {
                    "$ref": f"#/definitions/{name}",
                    "definitions": referenced({"$ref": f"#/definitions/{name}"}, definitions, {}),
                }


def from_crd(crd):
    for version in crd["spec"]["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"]["metadata"] = {"type": "object"}
        yield file_name(crd["spec"]["group"], version["name"], crd["spec"]["names"]["kind"]), schema


def main(source, folder):
    text = pathlib.Path(source).read_text(encoding="utf-8")
    if text.startswith("{"):
        schemas = from_openapi(json.loads(text))
    else:
        schemas = from_crd(yaml.safe_load(text))
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas:
        (folder / name).write_text(json.dumps(schema), encoding="utf-8")


main(*sys.argv[1:])
