"""An operator made with kopf: each Shop gets a Deployment and a Service of its own, and a note when it closes."""

import os

import kopf
from kubernetes import client, config
from kubernetes.client.rest import ApiException


@kopf.on.startup()
def connect(settings, **_):
    config.load_kube_config(os.environ["KUBECONFIG"])
    settings.posting.level = 20


@kopf.on.create("example.com", "v1", "shops")
def open_shop(body, name, namespace, spec, patch, **_):
    labels = {"shop": name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": spec["clerks"],
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "clerk", "image": "clerk", "ports": [{"containerPort": 8080}]}]},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    kopf.adopt([deployment, service])
    unless_there(client.AppsV1Api().create_namespaced_deployment, namespace, deployment)
    unless_there(client.CoreV1Api().create_namespaced_service, namespace, service)
    kopf.event(body, type="Normal", reason="Opened", message=f"{name} is open")
    patch.status["phase"] = "Open"
    patch.status["by"] = os.environ["OPERATOR"]


@kopf.on.field("example.com", "v1", "shops", field="spec.clerks", old=kopf.PRESENT, new=kopf.PRESENT)
def change_clerks(name, namespace, new, patch, **_):
    client.AppsV1Api().patch_namespaced_deployment_scale(name, namespace, {"spec": {"replicas": new}})
    patch.status["clerks"] = new


@kopf.on.delete("example.com", "v1", "shops")
def close_shop(name, namespace, **_):
    note = {"metadata": {"name": f"{name}-is-closed"}}
    unless_there(client.CoreV1Api().create_namespaced_config_map, namespace, note)


def unless_there(create, namespace, document):
    """A handler may run again after a failure half way."""
    try:
        create(namespace, document)
    except ApiException as error:
        if error.status != 409:
            raise
