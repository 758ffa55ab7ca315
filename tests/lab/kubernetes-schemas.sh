#!/bin/bash
# Schemas for kubeconform: prints the folder that has those of Kubernetes, strict, of the oldest and the newest version that the chart
# is tested with, and those of Prometheus' operator.
#
# They come from a Python package and a Go module, once a machine, below LAB_CACHE. Exits with 3 where those are out of reach.
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
package=1.37.0 operator=v0.85.0 versions=(1.25.0 1.37.0)
folder=$(lab_cache)/kubernetes-schemas-$package-$operator
exec 9>"$folder.lock"
flock 9
if [ ! -d "$folder" ]; then
  for program in go python3; do command -v "$program" >/dev/null || { say "$program is missing"; exit 3; }; done
  work=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m venv "$work/venv" >&2 &&
    "$work/venv/bin/pip" install --quiet --no-deps "kubernetes-validate==$package" PyYAML >&2 || exit 3
  crds=$(go mod download -json "github.com/prometheus-operator/prometheus-operator@$operator" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$crds" ] || exit 3
  "$work/venv/bin/python" - "$work/out" "$crds/example/prometheus-operator-crd" "${versions[@]}" <<'P'
import importlib.util, json, pathlib, sys
import yaml

# A lone `=` is a text in these files; YAML 1.1 has a type for it that PyYAML lacks.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)

out, crds, *versions = sys.argv[1:]
# The package is not imported: only its files are wanted, not what it needs to run.
source = pathlib.Path(importlib.util.find_spec("kubernetes_validate").origin).parent / "kubernetes-json-schema"


def inlined(schema, definitions):
    """Without references, which kubeconform does not follow into another file."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: inlined(value, definitions) for key, value in schema.items()}
    return [inlined(value, definitions) for value in schema] if isinstance(schema, list) else schema


for version in versions:
    folder = source / f"v{version}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())
    definitions = definitions.get("$defs") or definitions["definitions"]
    pathlib.Path(out, version).mkdir(parents=True)
    for kind in ("configmap-v1", "daemonset-apps-v1", "service-v1", "serviceaccount-v1"):
        schema = json.loads((folder / f"{kind}.json").read_text())
        pathlib.Path(out, version, f"{kind}.json").write_text(json.dumps(inlined(schema, definitions)))


def strict(schema):
    """As an API server with strict validation has it: no key that the schema does not know."""
    if isinstance(schema, dict):
        if "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)


for file in pathlib.Path(crds).glob("*.yaml"):
    crd = yaml.safe_load(file.read_text())
    for version in crd["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        strict(schema)
        schema["properties"]["metadata"].pop("additionalProperties", None)
        name = f"{crd['spec']['names']['singular']}-monitoring-{version['name']}.json"
        pathlib.Path(out, name).write_text(json.dumps(schema))
P
  mv "$work/out" "$folder"
fi
echo "$folder"
