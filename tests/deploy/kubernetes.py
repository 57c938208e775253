"""deploy/kubernetes: built by kubectl's own kustomize, held against Kubernetes' schemas and the Prometheus operator's, and agreeing with itself."""

import json
import pathlib
import re
import subprocess
import tempfile

import yaml

import pages
from compose import default, run, seconds, tool
from harness import environment

BASE = pages.ROOT / "deploy" / "kubernetes" / "base"
# The first in which native sidecars and the sleep of a preStop are on by default, and the newest that there are schemas of.
VERSIONS = ("1.30", "1.37")


def built(folder=BASE):
    """{(kind, name): resource} of a kustomization."""
    done = run(tool("kubectl"), "kustomize", folder)
    resources = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in resources}, done.stdout


def only(resources, kind):
    found = [one for (its, _), one in resources.items() if its == kind]
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def check_kubernetes_schemas(world):
    """Each resource passes the published schema of its kind, and no field is unknown to it."""
    resources, _ = built()
    operators = [one for one in resources.values() if one["apiVersion"].startswith("monitoring.coreos.com/")]
    own = [one for one in resources.values() if one not in operators]
    assert len(operators) == 2 and len(own) == 4, sorted(resources)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "resources.yaml")
        path.write_text(yaml.safe_dump_all(own))
        for version in VERSIONS:
            run(tool("kubernetes-validate"), "--strict", "-k", version, path)
        # What is wrong has to be found.
        path.write_text(yaml.safe_dump(dict(own[0], no_such_field=1)))
        assert run(tool("kubernetes-validate"), "--strict", path, check=False).returncode != 0, "an unknown field passed"
        operator(operators, pathlib.Path(folder))


def operator(resources, folder):
    """The operator's resources: TypeScript finds fields that it does not know, the validator of its schema everything else."""
    modules = pages.ROOT / ".ci/cache/node-deploy/node_modules"
    (folder / "node_modules").symlink_to(modules)
    (folder / "package.json").write_text('{"type": "module"}')
    module = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
    types, checks = ["type Plain<T> = T extends object ? { [K in keyof T]: Plain<T[K]> } : T;"], []
    for index, one in enumerate(resources):
        kind = one["kind"]
        types += [f'import type {{ I{kind} }} from "{module}/{kind}";', f"export const resource{index}: Plain<I{kind}> = {json.dumps(one)};"]
        checks += [f'import {{ {kind} }} from "{module}/{kind}";', f"new {kind}({json.dumps(one)}).validate();",
                   f"try {{ new {kind}({json.dumps(dict(one, spec=1))}).validate(); process.exit(3); }} catch {{}}"]
    types += ["// @ts-expect-error", 'export const wrong: Plain<IPodMonitor> = { spec: { podMetricsEndpoints: [], selector: {}, noSuchField: 1 } };']
    (folder / "types.ts").write_text("\n".join(types))
    (folder / "checks.js").write_text("\n".join(checks))
    run("node", modules / "typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022", "types.ts", cwd=folder)
    run("node", "checks.js", cwd=folder)


def check_kubernetes_agrees(world):
    """The sidecar is found, scraped, probed and ended as it should be; rules, dashboards and settings are those of this checkout."""
    resources, _ = built()
    pod = only(resources, "Deployment")["spec"]["template"]
    [sidecar], [application] = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert sidecar["restartPolicy"] == "Always", "not a native sidecar"
    monitor = only(resources, "PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), "the PodMonitor finds no pod"
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    settings = {one["name"]: one["value"] for one in sidecar["env"]}
    for endpoint in monitor["podMetricsEndpoints"]:
        assert settings["POOLWATCH_HTTP__ADDRESS"] == f"0.0.0.0:{ports[endpoint['port']]}" and endpoint["path"] == "/metrics"
        assert seconds(endpoint["interval"]) <= 30, "the rules want a scrape every 30 s"
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert sidecar[probe]["httpGet"]["path"] == path and sidecar[probe]["httpGet"]["port"] in ports
    pause = application["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause + 30 + seconds(default("shutdown.timeout")), "killed before it has drained"
    assert pod["spec"]["securityContext"]["runAsNonRoot"] and not pod["spec"]["automountServiceAccountToken"]
    for container in (sidecar, application):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]} and not context["allowPrivilegeEscalation"]
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
    user = re.search(r"^USER (\d+):", (pages.ROOT / "Dockerfile").read_text(), re.M)[1]
    assert str(sidecar["securityContext"]["runAsUser"]) == user == str(pod["spec"]["securityContext"]["fsGroup"])
    connects = {one["name"]: one["value"] for one in application["env"]}
    assert settings["POOLWATCH_LISTEN__ADDRESS"] == f"{connects['PGHOST']}:{connects['PGPORT']}"
    secret = only(resources, "Secret")
    for volume in pod["spec"]["volumes"]:
        assert volume["secret"]["secretName"] == secret["metadata"]["name"], "the secret's name with its hash did not reach the pod"
        assert {item["key"] for item in volume["secret"]["items"]} <= set(secret["data"])
    with tempfile.TemporaryDirectory() as folder:
        url = pathlib.Path(folder, "upstream-url")
        url.write_text((BASE / "secrets/upstream-url").read_text())
        token = pathlib.Path(folder, pathlib.PurePath(settings["POOLWATCH_HTTP__READER_TOKEN_FILE"]).name)
        token.write_text((BASE / "secrets" / token.name).read_text())
        mounted = {"POOLWATCH_UPSTREAM__URL_FILE": str(url), "POOLWATCH_HTTP__READER_TOKEN_FILE": str(token)}
        run(world.binary, "config", "check", env=environment(**settings | mounted))
        rules = pathlib.Path(folder, "rules.yml")
        rules.write_text(yaml.safe_dump(only(resources, "PrometheusRule")["spec"]))
        said = run("promtool", "check", "rules", rules).stdout
    written = [yaml.safe_load((pages.ROOT / f"dashboards/rules/{name}.yml").read_text())["groups"] for name in ("recording", "alerts")]
    assert only(resources, "PrometheusRule")["spec"]["groups"] == written[0] + written[1], "not the rules of dashboards/rules"
    assert f"SUCCESS: {sum(len(group['rules']) for file in written for group in file)} rules found" in said, said
    for name in ("pool", "fleet"):
        board = resources[("ConfigMap", f"poolwatch-dashboard-{name}")]
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert board["data"] == {f"{name}.json": (pages.ROOT / f"dashboards/{name}.json").read_text()}


def check_kubernetes_overlay(world):
    """The overlay of docs/containers.md builds, and its secret, namespace and image are what reaches the pod."""
    text = (pages.ROOT / "docs/containers.md").read_text()
    overlay = re.search(r"```yaml\n(apiVersion: kustomize.*?)```", text, re.S)[1]
    # Within the checkout, because a kustomization names what it builds on by a relative path.
    with tempfile.TemporaryDirectory(dir=pages.ROOT / "deploy/kubernetes") as folder:
        pathlib.Path(folder, "kustomization.yaml").write_text(overlay)
        for name, value in (("upstream-url", "postgresql://shop:secret@db.example/shop"), ("password", "secret"), ("reader-token", "0123456789abcdef")):
            pathlib.Path(folder, name).write_text(value)
        resources, said = built(pathlib.Path(folder))
    deployment = only(resources, "Deployment")
    wanted = yaml.safe_load(overlay)
    assert deployment["metadata"]["namespace"] == wanted["namespace"]
    assert deployment["spec"]["template"]["spec"]["initContainers"][0]["image"] == f"{wanted['images'][0]['newName']}:{wanted['images'][0]['newTag']}"
    assert set(only(resources, "Secret")["data"]) == {"upstream-url", "password", "reader-token"} and "Y2hhbmdlLW1l" not in said, "the example's secret is still there"


CHECKS = (check_kubernetes_schemas, check_kubernetes_agrees, check_kubernetes_overlay)
