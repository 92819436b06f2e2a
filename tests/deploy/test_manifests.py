"""What deploys DermQueue agrees with it: settings, commands, routes, times. No engine and no cluster runs here."""

import re
from pathlib import Path

import click
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from compose_spec import PyCompose
from sqlalchemy import make_url

from api import submissions
from api.app import create_app
from api.server import _GRACEFUL_TIMEOUT_S
from api.services import EXTENSION
from deploy.cli import main
from deploy.embedded.program import find_free_port
from shared.dispatch import _PURGE_AT
from shared.settings import PREFIX, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = [DEPLOY / "compose.yaml", DEPLOY / "compose.cuda.yaml"]
KUBERNETES = DEPLOY / "kubernetes"
CONTAINERFILES = sorted((DEPLOY / "containers").glob("*.Containerfile"))
KUBERNETES_VERSION = "1.31"
WATCHDOG_LATE = 1.05
"""It looks twenty times per lease."""


def read_manifests() -> list[dict]:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    files = [KUBERNETES / name for name in kustomization["resources"]]
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


def find(kind: str, name: str) -> dict:
    (found,) = (m for m in MANIFESTS if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


def container_of(manifest: dict) -> dict:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return container


MANIFESTS = read_manifests()
PODS = [manifest for manifest in MANIFESTS if manifest["kind"] in ("Deployment", "Job")]
OURS = [manifest for manifest in MANIFESTS if not manifest["apiVersion"].startswith("keda.sh/")]
KEDAS = [manifest for manifest in MANIFESTS if manifest["apiVersion"].startswith("keda.sh/")]
SERVICES = yaml.safe_load(COMPOSE[0].read_text())["services"]


def id_of(manifest: dict) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_the_compose_files_are_valid_by_the_compose_specification(file):
    # Merge keys are YAML's, and the parser is that of the specification alone.
    PyCompose.from_yaml(yaml.dump(yaml.safe_load(file.read_text()))).validate()


def test_a_second_gpus_worker_is_added_to_the_compose_file_as_the_page_says():
    (service,) = re.findall("```yaml\n(.+?)```", (DEPLOY / "docs" / "deploying.md").read_text(), re.DOTALL)
    services = yaml.safe_load(COMPOSE[1].read_text() + service)["services"]
    networks = {"default": {}}  # which is there without being named
    PyCompose.from_yaml(yaml.dump({"services": services, "networks": networks})).validate()
    devices = services["worker-1"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "device_ids": ["1"], "capabilities": ["gpu"]}]
    assert services["worker-1"]["image"] == services["worker"]["image"]


@pytest.mark.parametrize("manifest", OURS, ids=id_of)
def test_a_manifest_is_valid_for_kubernetes(manifest):
    kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("manifest", KEDAS, ids=id_of)
def test_kedas_resources_match_its_definitions(manifest):
    read = getattr(keda, manifest["kind"]).model_validate(manifest)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == manifest


def test_no_manifest_is_forgotten():
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    there = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == there
    assert {image["name"] for image in kustomization["images"]} == {container_of(pod)["image"] for pod in PODS}


def test_every_setting_that_is_named_exists():
    files = [
        *COMPOSE,
        *(file for name in ("containers", "kubernetes", "systemd") for file in (DEPLOY / name).glob("*.*")),
    ]
    named = {name for file in files for name in re.findall(rf"\b{PREFIX}[A-Z0-9_]+", file.read_text())}
    assert len(named) > 10
    assert {name.removeprefix(PREFIX).lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    "arguments",
    [container_of(pod)["args"] for pod in PODS]
    + [container_of(find("Deployment", "worker"))["livenessProbe"]["exec"]["command"][1:]]
    + [service["command"] for service in SERVICES.values() if service.get("build") and "command" in service]
    + [
        yaml.safe_load(command)
        for file in CONTAINERFILES
        for command in re.findall(r"^CMD (\[.*\])", file.read_text(), re.MULTILINE)
    ],
    ids=" ".join,
)
def test_every_command_that_is_called_is_one_of_ours_with_these_options(arguments):
    command, rest = main, [*arguments]
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    command.make_context(arguments[0], rest)


def test_no_probe_counts_among_the_requests_of_which_a_share_fails():
    (group,) = yaml.safe_load((DEPLOY / "monitoring" / "alerts.yml").read_text())["groups"]
    (expression,) = (rule["expr"] for rule in group["rules"] if rule["alert"] == "DermQueueErrors")
    assert re.findall(r'route!~"(.*?)"', expression) == ["/healthz|/readyz|/metrics"] * 2


def test_the_health_routes_answer_where_they_are_asked(settings):
    probes = [container_of(find("Deployment", "api"))[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    paths = {probe["httpGet"]["path"] for probe in probes}
    (asked,) = re.findall(r"http://127.0.0.1:8000(/\w+)", (DEPLOY / "containers/api.Containerfile").read_text())
    app = create_app(settings)
    found = {path: app.test_client().get(path).status_code for path in {*paths, asked}}
    app.extensions[EXTENSION].database.engine.dispose()
    assert found == {"/healthz": 200, "/readyz": 200}


def test_a_pod_stays_in_the_service_while_the_object_store_is_away(settings):
    probe = container_of(find("Deployment", "api"))["readinessProbe"]
    app = create_app(settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{find_free_port()}"}))
    found = app.test_client().get(probe["httpGet"]["path"]).status_code
    app.extensions[EXTENSION].database.engine.dispose()
    assert found == 200


def test_a_process_that_is_told_to_stop_has_time_to_finish():
    lease_s = float(find("ConfigMap", "dermqueue")["data"]["DERMQUEUE_LEASE_S"])
    pods = {name: find("Deployment", name)["spec"]["template"]["spec"] for name in ("api", "worker")}
    before_s = int(pods["api"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pods["api"]["terminationGracePeriodSeconds"] >= before_s + _GRACEFUL_TIMEOUT_S + 5
    assert pods["worker"]["terminationGracePeriodSeconds"] >= WATCHDOG_LATE * lease_s + 20
    assert seconds(SERVICES["api"]["stop_grace_period"]) >= _GRACEFUL_TIMEOUT_S + 5
    assert (
        seconds(SERVICES["worker"]["stop_grace_period"])
        >= WATCHDOG_LATE * Settings.model_fields["lease_s"].default + 20
    )


def test_a_workers_progress_is_checked_where_it_is_recorded():
    container = container_of(find("Deployment", "worker"))
    file = container["args"][-1]
    assert file.startswith(container["volumeMounts"][0]["mountPath"])
    assert container["livenessProbe"]["exec"]["command"][-1] == container["startupProbe"]["exec"]["command"][-1] == file


@pytest.mark.parametrize("pod", PODS, ids=id_of)
def test_no_pod_has_more_rights_than_it_needs(pod):
    spec, container = pod["spec"]["template"]["spec"], container_of(pod)
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("file", CONTAINERFILES, ids=lambda file: file.name)
def test_an_image_runs_without_privileges_and_has_a_health_check(file):
    last_stage = file.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last_stage, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last_stage, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "setting"),
    [("kubernetes/ingress.yaml", r"proxy-body-size: (\d+)m"), ("docs/deploying.md", r"client_max_body_size (\d+)m;")],
)
def test_nginx_lets_the_largest_submission_through(file, setting):
    (limit_mib,) = re.findall(setting, (DEPLOY / file).read_text())
    assert int(limit_mib) * 2**20 > submissions.MAX_BYTES


def test_the_network_is_open_exactly_where_something_listens():
    open_ports = {
        policy["metadata"]["name"]: policy["spec"]["ingress"][0]["ports"][0]["port"]
        for policy in MANIFESTS
        if policy["kind"] == "NetworkPolicy" and "ingress" in policy["spec"]
    }
    listening = {
        name: container_of(find("Deployment", name))["ports"][0]["containerPort"] for name in ("api", "worker")
    }
    assert open_ports == {"to-api": listening["api"], "to-workers-metrics": listening["worker"]}
    scraped = "|".join(f"{name};{port}" for name, port in listening.items())
    assert f"regex: {scraped}\n" in (DEPLOY / "docs" / "operating.md").read_text()
    variables = {entry["name"]: entry["value"] for entry in container_of(find("Deployment", "worker"))["env"]}
    assert variables["DERMQUEUE_METRICS_PORT"] == str(listening["worker"])


def test_the_example_of_the_secrets_verifies_whom_the_database_belongs_to_as_the_security_page_demands():
    example = dict(re.findall(r"^(\w+)=(.*)$", (KUBERNETES / "secret.env.example").read_text(), re.MULTILINE))
    assert "`sslmode=verify-full`" in (DEPLOY.parent / "SECURITY.md").read_text()
    assert make_url(example["DERMQUEUE_DATABASE_URL"]).query == {"sslmode": "verify-full"}
    assert example["PGSSLROOTCERT"]  # otherwise libpq looks for a file in the home directory, and refuses to connect


def test_the_ingress_keeps_no_log_of_addresses_since_a_search_has_a_reference_in_its():
    assert find("Ingress", "api")["metadata"]["annotations"]["nginx.ingress.kubernetes.io/enable-access-log"] == "false"


def test_the_compose_file_mounts_what_is_there_and_asks_for_what_the_example_names():
    mounted = [mount for service in SERVICES.values() for mount in service.get("volumes", ()) if mount.startswith("./")]
    assert mounted
    assert [mount for mount in mounted if not (DEPLOY / mount.split(":")[0]).exists()] == []
    asked = set(re.findall(r"\$\{(\w+):\?\}", COMPOSE[0].read_text())) | {"METRICS_TOKEN"}
    example = (DEPLOY / "compose.env.example").read_text()
    assert asked == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_no_container_of_the_compose_file_logs_without_limit():
    assert [name for name, service in SERVICES.items() if service["logging"] != {"driver": "local"}] == []


def test_the_api_of_the_compose_file_waits_for_the_disk_of_the_object_store():
    (volume,) = {mount.split(":")[0] for mount in SERVICES["s3"]["volumes"]}
    folder = SERVICES["api"]["environment"]["DERMQUEUE_S3_FOLDER"]
    assert f"{volume}:{folder}:ro" in SERVICES["api"]["volumes"]


def test_the_server_that_postgres_runs_while_it_makes_the_database_is_not_called_healthy():
    check = SERVICES["postgres"]["healthcheck"]
    assert check["test"][1:4] == ["pg_isready", "--host", "127.0.0.1"]  # it listens on the socket alone
    assert seconds(check["start_period"]) >= 60


def test_a_machine_that_is_off_at_night_makes_up_for_the_purge():
    beat, image = SERVICES["beat"], (DEPLOY / "containers" / "api.Containerfile").read_text()
    folder = str(Path(beat["command"][beat["command"].index("--schedule-file") + 1]).parent)
    assert beat["volumes"] == [f"beat:{folder}"]
    assert f"install -d -o 10001 -g 10001 {folder}\n" in image.rpartition("\nFROM ")[2]


def test_the_purge_finds_a_worker():
    cron = find("ScaledObject", "worker")["spec"]["triggers"][1]["metadata"]
    (hour,), (minute,) = _PURGE_AT.hour, _PURGE_AT.minute
    begins, ends = ([int(part) for part in cron[when].split()[:2]] for when in ("start", "end"))
    assert cron["timezone"] == "Etc/UTC"
    assert begins[::-1] < [hour, minute] < ends[::-1]


def test_prometheus_asks_api_and_workers_where_the_compose_file_has_them():
    api, worker = yaml.safe_load((DEPLOY / "containers" / "prometheus.yml").read_text())["scrape_configs"]
    assert api["static_configs"] == [{"targets": ["api:8000"]}]
    assert api["authorization"]["credentials_file"] == f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"
    (found,) = worker["dns_sd_configs"]
    assert (found["names"], str(found["port"])) == (
        ["worker"],
        SERVICES["worker"]["environment"]["DERMQUEUE_METRICS_PORT"],
    )
    assert {"api", "worker"} <= SERVICES.keys()
