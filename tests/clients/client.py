"""The official Python client, typed and dynamic, against the cluster of $KUBECONFIG. Fails at the first surprise."""

import json
import os

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "python"


def main():
    config.load_kube_config(os.environ["KUBECONFIG"])
    core = client.CoreV1Api()
    assert client.VersionApi().get_code().major == "1"
    assert "apps" in [group.name for group in client.ApisApi().get_api_versions().groups]
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    typed(core)
    errors(core)
    by_discovery(core)
    custom_resources()
    core.delete_namespace(NAMESPACE)
    for event in watch.Watch().stream(core.list_namespace, timeout_seconds=30):
        if event["type"] == "DELETED" and event["object"].metadata.name == NAMESPACE:
            return
    raise AssertionError("the namespace was not deleted")


def typed(core):
    apps = client.AppsV1Api()
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "web"}),
        spec=client.V1PodSpec(
            containers=[
                client.V1Container(name="web", image="web", ports=[client.V1ContainerPort(container_port=8080)])
            ]
        ),
    )
    spec = client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template
    )
    apps.create_namespaced_deployment(
        NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    )
    service = core.create_namespaced_service(
        NAMESPACE,
        client.V1Service(
            metadata=client.V1ObjectMeta(name="web"),
            spec=client.V1ServiceSpec(
                selector={"app": "web"}, ports=[client.V1ServicePort(port=80, target_port=8080)]
            ),
        ),
    )
    assert service.spec.cluster_ip.startswith("127."), service
    until(apps.list_namespaced_deployment, lambda d: (d.status.ready_replicas or 0) == 2)
    slices = client.DiscoveryV1Api().list_namespaced_endpoint_slice
    until(slices, lambda s: sum(e.conditions.ready is True for e in s.endpoints or []) == 2)
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 1}})
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 1
    until(slices, lambda s: len(s.endpoints or []) == 1)
    utils.create_from_dict(
        client.ApiClient(),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NAMESPACE}, "stringData": {"a": "b"}},
    )
    assert core.read_namespaced_secret("s", NAMESPACE).data == {"a": "Yg=="}


def custom_resources():
    """A kind of its own, by the dynamic client and by the one for custom objects."""
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "boxes", "singular": "box", "kind": "Box"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    extensions = client.ApiextensionsV1Api()
    extensions.create_custom_resource_definition(definition)
    for event in watch.Watch().stream(extensions.list_custom_resource_definition, timeout_seconds=30):
        conditions = event["object"].status.conditions or []
        if any(condition.type == "Established" and condition.status == "True" for condition in conditions):
            break
    boxes = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="example.com/v1", kind="Box")
    box = {"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "a"}, "spec": {"n": 1}}
    boxes.create(namespace=NAMESPACE, body=box)
    merge = "application/merge-patch+json"
    boxes.patch(namespace=NAMESPACE, name="a", body={"spec": {"n": 2}}, content_type=merge)
    apply = {**box, "spec": {"n": 3}}
    boxes.server_side_apply(namespace=NAMESPACE, body=apply, field_manager="test", force_conflicts=True)
    custom = client.CustomObjectsApi()
    found = custom.list_namespaced_custom_object("example.com", "v1", NAMESPACE, "boxes")["items"]
    assert [item["spec"] for item in found] == [{"n": 3}], found
    without_version = {**box, "spec": {"n": 4}}
    try:
        custom.replace_namespaced_custom_object("example.com", "v1", NAMESPACE, "boxes", "a", without_version)
    except ApiException as error:
        assert "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update" in error.body, error.body
    else:
        raise AssertionError("an update of a custom object names its resourceVersion")
    boxes.delete(namespace=NAMESPACE, name="a")
    extensions.delete_custom_resource_definition("boxes.example.com")


def until(call, reached):
    """Watches until an object is as wanted."""
    for event in watch.Watch().stream(call, NAMESPACE, timeout_seconds=30):
        if reached(event["object"]):
            return
    raise AssertionError(f"{call.__name__}: never so")


def errors(core):
    def status(call, *arguments):
        try:
            call(*arguments)
        except ApiException as error:
            return json.loads(error.body)
        raise AssertionError(f"{call.__name__} must fail")

    missing = status(core.read_namespaced_config_map, "none", NAMESPACE)
    assert (missing["code"], missing["reason"]) == (404, "NotFound"), missing
    port = client.V1ServicePort(port=80, node_port=40000)
    bad = client.V1Service(
        metadata=client.V1ObjectMeta(name="bad"), spec=client.V1ServiceSpec(type="NodePort", ports=[port])
    )
    invalid = status(core.create_namespaced_service, NAMESPACE, bad)
    assert invalid["code"] == 422, invalid
    assert invalid["details"]["causes"][0]["field"] == "spec.ports[0].nodePort", invalid


def by_discovery(core):
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"a": "1"}}
    maps.create(body=document, namespace=NAMESPACE)
    merged = maps.patch(
        name="a", namespace=NAMESPACE, body={"data": {"b": "2"}}, content_type="application/merge-patch+json"
    )
    assert dict(merged.data) == {"a": "1", "b": "2"}, merged
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"c": "3"}}
    applied = maps.server_side_apply(body=owned, name="a", namespace=NAMESPACE, field_manager="python")
    assert dict(applied.data) == {"a": "1", "b": "2", "c": "3"}, applied
    assert [m.metadata.name for m in maps.get(namespace=NAMESPACE, label_selector="x=y").items] == ["a"]
    first = next(iter(maps.watch(namespace=NAMESPACE, label_selector="x=y", timeout=30)))
    assert (first["type"], first["object"].metadata.name) == ("ADDED", "a")
    page = core.list_namespaced_config_map(NAMESPACE, limit=1)
    rest = core.list_namespaced_config_map(NAMESPACE, limit=10, _continue=page.metadata._continue)
    names = [m.metadata.name for m in page.items + rest.items]
    assert names == ["a", "kube-root-ca.crt"], names


main()
