//! Every kind that is served, through the verbs of kubectl.

use crate::{
    cluster::Cluster,
    tools::{self, Tool, can_use, eventually, wanted},
};

/// A kind in kubectl's words: resource, and an object named `sample` (labels are added) with what to patch.
pub(crate) struct Sample {
    pub(crate) resource: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) manifest: &'static str,
    patch: &'static str,
    /// Where the patch shows, and how.
    patched: (&'static str, &'static str),
}

pub(crate) const SAMPLES: &[Sample] = &[
    Sample {
        resource: "namespaces",
        namespaced: false,
        manifest: "apiVersion: v1\nkind: Namespace\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "nodes",
        namespaced: false,
        manifest: "apiVersion: v1\nkind: Node\n",
        patch: r#"{"spec":{"unschedulable":true}}"#,
        patched: ("{.spec.unschedulable}", "true"),
    },
    Sample {
        resource: "pods",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: app, image: 'app:1'}]}\n",
        patch: r#"{"spec":{"containers":[{"name":"app","image":"app:2"}]}}"#,
        patched: ("{.spec.containers[*].image}", "app:2"),
    },
    Sample {
        resource: "services",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: Service\nspec: {ports: [{name: a, port: 8080}]}\n",
        patch: r#"{"spec":{"ports":[{"name":"b","port":9090}]}}"#,
        // Merged by port: the strategic merge of Services.
        patched: ("{.spec.ports[*].port}", "9090 8080"),
    },
    Sample {
        resource: "endpoints",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: Endpoints\n\
                   subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 3000}]}]\n",
        patch: r#"{"subsets":[{"addresses":[{"ip":"127.0.0.2"}],"ports":[{"port":3000}]}]}"#,
        patched: ("{.subsets[*].addresses[*].ip}", "127.0.0.2"),
    },
    Sample {
        resource: "endpointslices",
        namespaced: true,
        manifest: "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
                   endpoints: [{addresses: [127.0.0.1]}]\nports: [{port: 3000}]\n",
        patch: r#"{"endpoints":[{"addresses":["127.0.0.2"]}]}"#,
        patched: ("{.endpoints[*].addresses[*]}", "127.0.0.2"),
    },
    Sample {
        resource: "configmaps",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: ConfigMap\ndata: {a: '1'}\n",
        patch: r#"{"data":{"b":"2"}}"#,
        patched: ("{.data.a}{.data.b}", "12"),
    },
    Sample {
        resource: "secrets",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: Secret\nstringData: {a: secret}\n",
        patch: r#"{"stringData":{"a":"other"}}"#,
        patched: ("{.data.a}", "b3RoZXI="),
    },
    Sample {
        resource: "events",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: Event\ntype: Normal\nreason: Seen\nmessage: it was seen\n\
                   involvedObject: {apiVersion: v1, kind: Pod, name: other, namespace: default}\n",
        patch: r#"{"message":"it was seen again"}"#,
        patched: ("{.message}", "it was seen again"),
    },
    Sample {
        resource: "deployments",
        namespaced: true,
        manifest: "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 1, selector: {matchLabels: {app: d}}, \
                   template: {metadata: {labels: {app: d}}, spec: {containers: [{name: app, image: app}]}}}\n",
        patch: r#"{"spec":{"replicas":2}}"#,
        patched: ("{.spec.replicas}", "2"),
    },
    Sample {
        resource: "replicasets",
        namespaced: true,
        manifest: "apiVersion: apps/v1\nkind: ReplicaSet\nspec: {replicas: 1, selector: {matchLabels: {app: r}}, \
                   template: {metadata: {labels: {app: r}}, spec: {containers: [{name: app, image: app}]}}}\n",
        patch: r#"{"spec":{"replicas":2}}"#,
        patched: ("{.spec.replicas}", "2"),
    },
    Sample {
        resource: "statefulsets",
        namespaced: true,
        manifest: "apiVersion: apps/v1\nkind: StatefulSet\nspec: {serviceName: s, selector: {matchLabels: {app: s}}, \
                   template: {metadata: {labels: {app: s}}, spec: {containers: [{name: app, image: app}]}}}\n",
        patch: r#"{"spec":{"replicas":2}}"#,
        patched: ("{.spec.replicas}", "2"),
    },
    Sample {
        resource: "daemonsets",
        namespaced: true,
        manifest: "apiVersion: apps/v1\nkind: DaemonSet\nspec: {selector: {matchLabels: {app: d}}, \
                   template: {metadata: {labels: {app: d}}, spec: {containers: [{name: app, image: app}]}}}\n",
        patch: r#"{"spec":{"minReadySeconds":2}}"#,
        patched: ("{.spec.minReadySeconds}", "2"),
    },
    Sample {
        resource: "jobs",
        namespaced: true,
        manifest: "apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {restartPolicy: Never, \
                   containers: [{name: app, image: app}]}}}\n",
        patch: r#"{"spec":{"parallelism":2}}"#,
        patched: ("{.spec.parallelism}", "2"),
    },
    Sample {
        resource: "cronjobs",
        namespaced: true,
        manifest: "apiVersion: batch/v1\nkind: CronJob\nspec: {schedule: '0 3 * * *', jobTemplate: {spec: {template: \
                   {spec: {restartPolicy: Never, containers: [{name: app, image: app}]}}}}}\n",
        patch: r#"{"spec":{"suspend":true}}"#,
        patched: ("{.spec.suspend}", "true"),
    },
    Sample {
        resource: "replicationcontrollers",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: ReplicationController\nspec: {replicas: 0, \
                   template: {metadata: {labels: {app: r}}, spec: {containers: [{name: app, image: app}]}}}\n",
        patch: r#"{"spec":{"replicas":1}}"#,
        patched: ("{.spec.replicas}", "1"),
    },
    Sample {
        resource: "poddisruptionbudgets",
        namespaced: true,
        manifest: "apiVersion: policy/v1\nkind: PodDisruptionBudget\n\
                   spec: {minAvailable: 1, selector: {matchLabels: {app: p}}}\n",
        patch: r#"{"spec":{"minAvailable":2}}"#,
        patched: ("{.spec.minAvailable}", "2"),
    },
    Sample {
        resource: "controllerrevisions",
        namespaced: true,
        manifest: "apiVersion: apps/v1\nkind: ControllerRevision\nrevision: 1\ndata: {spec: {a: b}}\n",
        patch: r#"{"revision":2}"#,
        patched: ("{.revision}", "2"),
    },
    Sample {
        resource: "runtimeclasses",
        namespaced: false,
        manifest: "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nhandler: simulated\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "persistentvolumeclaims",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: PersistentVolumeClaim\nspec: {accessModes: [ReadWriteOnce], \
                   resources: {requests: {storage: 1Gi}}}\n",
        patch: r#"{"spec":{"volumeName":"disk"}}"#,
        patched: ("{.spec.volumeName}{.status.phase}", "diskPending"),
    },
    Sample {
        resource: "persistentvolumes",
        namespaced: false,
        manifest: "apiVersion: v1\nkind: PersistentVolume\nspec: {accessModes: [ReadWriteOnce], \
                   capacity: {storage: 1Gi}, hostPath: {path: /data}}\n",
        patch: r#"{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}"#,
        patched: ("{.spec.persistentVolumeReclaimPolicy}", "Delete"),
    },
    Sample {
        resource: "networkpolicies",
        namespaced: true,
        manifest: "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nspec: {podSelector: {}, \
                   ingress: [{ports: [{port: 80}]}]}\n",
        patch: r#"{"spec":{"policyTypes":["Ingress","Egress"]}}"#,
        patched: (
            "{.spec.policyTypes[*]}{.spec.ingress[0].ports[0].protocol}",
            "Ingress EgressTCP",
        ),
    },
    Sample {
        resource: "ingresses",
        namespaced: true,
        manifest: "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
                   spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}\n",
        patch: r#"{"spec":{"ingressClassName":"front"}}"#,
        patched: ("{.spec.ingressClassName}{.spec.defaultBackend.service.name}", "frontweb"),
    },
    Sample {
        resource: "ingressclasses",
        namespaced: false,
        manifest: "apiVersion: networking.k8s.io/v1\nkind: IngressClass\n\
                   spec: {controller: example.com/front, parameters: {kind: Config, name: c}}\n",
        patch: r#"{"spec":{"parameters":{"name":"d"}}}"#,
        patched: ("{.spec.parameters.name}{.spec.parameters.scope}", "dCluster"),
    },
    Sample {
        resource: "servicecidrs",
        namespaced: false,
        manifest: "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nspec: {cidrs: [127.96.0.0/24]}\n",
        patch: r#"{"spec":{"cidrs":["127.96.0.0/24","fd00::/112"]}}"#,
        patched: ("{.spec.cidrs[*]}", "127.96.0.0/24 fd00::/112"),
    },
    Sample {
        resource: "roles",
        namespaced: true,
        manifest: "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n\
                   rules: [{verbs: [get], apiGroups: [''], resources: [pods]}]\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}{.rules[0].verbs[0]}", "1get"),
    },
    Sample {
        resource: "rolebindings",
        namespaced: true,
        manifest: "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
                   roleRef: {kind: Role, name: r}\nsubjects: [{kind: User, name: ann}]\n",
        patch: r#"{"subjects":[{"kind":"User","name":"bob"}]}"#,
        patched: ("{.subjects[*].name}", "bob"),
    },
    Sample {
        resource: "clusterroles",
        namespaced: false,
        manifest: "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n\
                   rules: [{verbs: [get], nonResourceURLs: [/healthz]}]\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "clusterrolebindings",
        namespaced: false,
        manifest: "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
                   roleRef: {kind: ClusterRole, name: r}\nsubjects: [{kind: Group, name: team}]\n",
        patch: r#"{"subjects":[{"kind":"Group","name":"other"}]}"#,
        patched: ("{.subjects[*].name}", "other"),
    },
    Sample {
        resource: "priorityclasses",
        namespaced: false,
        manifest: "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nvalue: 10\n",
        patch: r#"{"description":"more"}"#,
        patched: ("{.description}{.preemptionPolicy}", "morePreemptLowerPriority"),
    },
    Sample {
        resource: "storageclasses",
        namespaced: false,
        manifest: "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nprovisioner: example.com/disk\n",
        patch: r#"{"allowVolumeExpansion":true}"#,
        patched: (
            "{.reclaimPolicy}{.volumeBindingMode}{.allowVolumeExpansion}",
            "DeleteImmediatetrue",
        ),
    },
    Sample {
        resource: "resourcequotas",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: ResourceQuota\nspec: {hard: {pods: 10}}\n",
        patch: r#"{"spec":{"hard":{"pods":"20"}}}"#,
        patched: ("{.spec.hard.pods}", "20"),
    },
    Sample {
        resource: "limitranges",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: LimitRange\nspec: {limits: [{type: Pod, max: {cpu: 64}}]}\n",
        patch: r#"{"spec":{"limits":[{"type":"Pod","max":{"memory":"64Gi"}}]}}"#,
        patched: ("{.spec.limits[*].max.memory}", "64Gi"),
    },
    Sample {
        resource: "podtemplates",
        namespaced: true,
        manifest: "apiVersion: v1\nkind: PodTemplate\n\
                   template: {spec: {containers: [{name: app, image: 'app:1'}]}}\n",
        patch: r#"{"template":{"spec":{"containers":[{"name":"app","image":"app:2"}]}}}"#,
        patched: ("{.template.spec.containers[*].image}{.metadata.generation}", "app:22"),
    },
    Sample {
        resource: "csidrivers",
        namespaced: false,
        manifest: "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nspec: {attachRequired: false}\n",
        patch: r#"{"spec":{"podInfoOnMount":true}}"#,
        patched: ("{.spec.podInfoOnMount}{.spec.fsGroupPolicy}", "trueReadWriteOnceWithFSType"),
    },
    Sample {
        resource: "csinodes",
        namespaced: false,
        manifest: "apiVersion: storage.k8s.io/v1\nkind: CSINode\nspec: {drivers: [{name: d, nodeID: '1'}]}\n",
        patch: r#"{"spec":{"drivers":[{"name":"e","nodeID":"2"}]}}"#,
        // Merged by name: the strategic merge of CSINodes.
        patched: ("{.spec.drivers[*].name}", "e d"),
    },
    Sample {
        resource: "csistoragecapacities",
        namespaced: true,
        manifest: "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nstorageClassName: fast\n",
        patch: r#"{"capacity":"1Gi"}"#,
        patched: ("{.capacity}", "1Gi"),
    },
    Sample {
        resource: "volumeattachments",
        namespaced: false,
        manifest: "apiVersion: storage.k8s.io/v1\nkind: VolumeAttachment\n\
                   spec: {attacher: d.example.com, nodeName: node-1, source: {persistentVolumeName: pv}}\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "volumeattributesclasses",
        namespaced: false,
        manifest: "apiVersion: storage.k8s.io/v1\nkind: VolumeAttributesClass\ndriverName: d\n\
                   parameters: {iops: '100'}\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "serviceexports.v1alpha1.multicluster.x-k8s.io",
        namespaced: true,
        manifest: "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n",
        patch: r#"{"spec":{"exportedLabels":{"a":"b"}}}"#,
        patched: ("{.apiVersion}{.spec.exportedLabels.a}", "multicluster.x-k8s.io/v1alpha1b"),
    },
    Sample {
        resource: "serviceimports",
        namespaced: true,
        manifest: "apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceImport\n\
                   spec: {type: ClusterSetIP, ports: [{port: 80}]}\n",
        patch: r#"{"spec":{"ips":["127.1.2.3"]}}"#,
        patched: ("{.apiVersion}{.spec.ips[0]}", "multicluster.x-k8s.io/v1beta1127.1.2.3"),
    },
    Sample {
        resource: "loadbalancerpolicies",
        namespaced: false,
        manifest: "apiVersion: snowglobe.dev/v1alpha1\nkind: LoadBalancerPolicy\nspec: {module: {builtin: rr}}\n",
        patch: r#"{"spec":{"onFailure":"Reject"}}"#,
        patched: ("{.spec.onFailure}", "Reject"),
    },
    Sample {
        resource: "topologypolicies",
        namespaced: false,
        manifest: "apiVersion: snowglobe.dev/v1alpha1\nkind: TopologyPolicy\nspec: {module: {builtin: spread}}\n",
        patch: r#"{"spec":{"onFailure":"Reject"}}"#,
        patched: ("{.spec.onFailure}", "Reject"),
    },
    Sample {
        resource: "horizontalpodautoscalers",
        namespaced: true,
        manifest: "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec: {maxReplicas: 3, \
                   scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}\n",
        patch: r#"{"spec":{"maxReplicas":4}}"#,
        patched: ("{.spec.maxReplicas}", "4"),
    },
    Sample {
        resource: "validatingwebhookconfigurations",
        namespaced: false,
        manifest: "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
                   webhooks: [{name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], \
                   clientConfig: {url: 'https://a.example'}, rules: [{operations: [CREATE], apiGroups: [''], \
                   apiVersions: [v1], resources: [pods]}]}]\n",
        patch: r#"{"webhooks":[{"name":"a.example.com","timeoutSeconds":5}]}"#,
        patched: ("{.webhooks[0].timeoutSeconds}", "5"),
    },
    Sample {
        resource: "mutatingwebhookconfigurations",
        namespaced: false,
        manifest: "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\n\
                   webhooks: [{name: a.example.com, sideEffects: None, admissionReviewVersions: [v1], \
                   clientConfig: {url: 'https://a.example'}, rules: [{operations: [CREATE], apiGroups: [''], \
                   apiVersions: [v1], resources: [pods]}]}]\n",
        patch: r#"{"webhooks":[{"name":"a.example.com","timeoutSeconds":5}]}"#,
        patched: ("{.webhooks[0].timeoutSeconds}", "5"),
    },
    Sample {
        resource: "validatingadmissionpolicies",
        namespaced: false,
        manifest: "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\n\
                   spec: {validations: [{expression: 'true'}], matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], \
                   resources: [pods]}]}}\n",
        patch: r#"{"spec":{"failurePolicy":"Ignore"}}"#,
        patched: ("{.spec.failurePolicy}", "Ignore"),
    },
    Sample {
        resource: "validatingadmissionpolicybindings",
        namespaced: false,
        manifest: "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\n\
                   spec: {policyName: p, validationActions: [Deny]}\n",
        patch: r#"{"spec":{"policyName":"q"}}"#,
        patched: ("{.spec.policyName}", "q"),
    },
    Sample {
        resource: "mutatingadmissionpolicies",
        namespaced: false,
        manifest: "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingAdmissionPolicy\n\
                   spec: {reinvocationPolicy: Never, mutations: [{patchType: JSONPatch, jsonPatch: {expression: '[]'}}], \
                   matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], \
                   resources: [pods]}]}}\n",
        patch: r#"{"spec":{"failurePolicy":"Ignore"}}"#,
        patched: ("{.spec.failurePolicy}", "Ignore"),
    },
    Sample {
        resource: "mutatingadmissionpolicybindings",
        namespaced: false,
        manifest: "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingAdmissionPolicyBinding\nspec: {policyName: p}\n",
        patch: r#"{"spec":{"policyName":"q"}}"#,
        patched: ("{.spec.policyName}", "q"),
    },
    Sample {
        resource: "flowschemas",
        namespaced: false,
        manifest: "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: FlowSchema\n\
                   spec: {priorityLevelConfiguration: {name: workload-low}}\n",
        patch: r#"{"spec":{"matchingPrecedence":7}}"#,
        patched: ("{.spec.matchingPrecedence}", "7"),
    },
    Sample {
        resource: "prioritylevelconfigurations",
        namespaced: false,
        manifest: "apiVersion: flowcontrol.apiserver.k8s.io/v1\nkind: PriorityLevelConfiguration\n\
                   spec: {type: Limited, limited: {limitResponse: {type: Reject}}}\n",
        patch: r#"{"spec":{"limited":{"lendablePercent":7}}}"#,
        patched: ("{.spec.limited.lendablePercent}", "7"),
    },
    Sample {
        resource: "deviceclasses",
        namespaced: false,
        manifest: "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nspec: {}\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "resourceclaims",
        namespaced: true,
        manifest: "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\n\
                   spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "resourceclaimtemplates",
        namespaced: true,
        manifest: "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\n\
                   spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
    Sample {
        resource: "resourceslices",
        namespaced: false,
        manifest: "apiVersion: resource.k8s.io/v1\nkind: ResourceSlice\nspec: {driver: d.example, nodeName: node-1, \
                   pool: {name: p, generation: 1, resourceSliceCount: 1}}\n",
        patch: r#"{"metadata":{"annotations":{"note":"1"}}}"#,
        patched: ("{.metadata.annotations.note}", "1"),
    },
];

#[test]
fn every_kind_installed() {
    every_kind(Tool::Kubectl);
}

#[test]
fn every_kind_v1_37() {
    every_kind(Tool::Kubectl137);
}

fn every_kind(kubectl: Tool) {
    if !can_use(&[kubectl]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.kubectl = kubectl;
    for sample in SAMPLES {
        go_through(&cluster, sample);
    }
}

fn go_through(cluster: &Cluster, sample: &Sample) {
    let Sample { resource, namespaced, manifest, patch, patched } = sample;
    let manifest = format!("{manifest}metadata: {{name: sample, labels: {{suite: kinds}}}}\n");
    let file = cluster.place.file(&format!("{resource}.yaml"), &manifest);
    let created = cluster.kubectl(&format!("create -f {}", file.display()));
    assert!(created.ends_with("/sample created\n"), "{created}");
    let name = created.trim_end().trim_end_matches(" created").to_owned();
    let again = cluster.try_kubectl(&format!("create -f {}", file.display())).failed();
    assert!(again.contains("AlreadyExists"), "{again}");

    let table = cluster.kubectl(&format!("get {resource} sample"));
    let events = *resource == "events";
    assert!(table.contains(if events { "it was seen" } else { "sample" }), "{table}");
    let wide = cluster.kubectl(&format!("get {resource} sample -o wide"));
    assert_eq!(wide.lines().count(), 2, "{wide}");
    let yaml = cluster.kubectl(&format!("get {resource} sample -o yaml"));
    assert!(yaml.contains("  name: sample\n"), "{yaml}");
    let json = cluster.json(&format!("get {resource} sample"));
    assert_eq!(json["metadata"]["labels"]["suite"], "kinds");
    assert!(json["metadata"]["uid"].is_string() && json["metadata"]["resourceVersion"].is_string());
    assert_eq!(
        cluster.kubectl(&format!("get {resource} -l suite=kinds -o name")),
        format!("{name}\n")
    );
    assert_eq!(cluster.kubectl(&format!("get {resource} -l suite!=kinds,suite -o name")), "");
    let all = cluster.kubectl(&format!("get {resource} -A"));
    assert_eq!(all.starts_with("NAMESPACE"), *namespaced, "{all}");
    // kubectl 1.32 describes these by beta versions that Kubernetes 1.36 does not serve any more.
    if !["servicecidrs", "volumeattributesclasses"].contains(resource) {
        let described = cluster.kubectl(&format!("describe {resource} sample"));
        assert!(described.starts_with("Name:"), "{described}");
    }

    let explained = cluster.kubectl(&format!("explain --recursive {}", plural(resource)));
    assert!(explained.contains("FIELDS:"), "{explained}");
    cluster.kubectl(&format!("apply --server-side --force-conflicts -f {}", file.display()));

    cluster.kubectl(&format!("label {resource} sample tier=test"));
    cluster.kubectl(&format!("annotate {resource} sample example.com/owner=team"));
    let json = cluster.json(&format!("get {resource} -l tier=test"));
    assert_eq!(json["items"][0]["metadata"]["annotations"]["example.com/owner"], "team");
    let taken = cluster.try_kubectl(&format!("label {resource} sample tier=other")).failed();
    assert!(taken.contains("--overwrite"), "{taken}");
    let remove = cluster.kubectl(&format!("label {resource} sample tier-"));
    assert!(remove.contains("unlabeled"), "{remove}");

    tools::run(cluster.kubectl_command(&[
        "patch",
        resource,
        "sample",
        "-p",
        patch,
        "--type",
        strategy(resource),
    ]))
    .succeeded();
    let (path, value) = patched;
    assert_eq!(
        cluster.kubectl(&format!("get {resource} sample -o jsonpath={path}")),
        *value,
        "{resource}"
    );
    let mut edit = cluster.kubectl_command(&["edit", resource, "sample"]);
    edit.env("KUBE_EDITOR", "sed -i s/suite:.kinds/suite:\\ edited/");
    let edited = tools::run(edit).succeeded();
    assert!(edited.ends_with(" edited\n"), "{edited}");
    assert_eq!(
        cluster.kubectl(&format!("get {resource} -l suite=edited -o name")),
        format!("{name}\n")
    );

    let deleted = cluster.kubectl(&format!("delete {resource} sample"));
    assert!(deleted.contains("deleted"), "{deleted}");
    let gone = cluster.try_kubectl(&format!("get {resource} sample")).failed();
    assert!(gone.contains("NotFound"), "{gone}");
}

#[test]
fn events_are_the_same_in_both_groups() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let event = "apiVersion: events.k8s.io/v1\nkind: Event\nmetadata: {name: seen, namespace: default}\n\
                 eventTime: 2026-01-01T00:00:00.000000Z\nreportingController: example.com/test\n\
                 reportingInstance: one\naction: Look\nreason: Seen\ntype: Normal\nnote: it was seen\n\
                 regarding: {apiVersion: v1, kind: Pod, name: other, namespace: default}\n\
                 series: {count: 3, lastObservedTime: 2199-01-01T00:00:00.000000Z}\n";
    let file = cluster.place.file("event.yaml", event);
    cluster.kubectl(&format!("create -f {}", file.display()));
    let old = cluster.json("get events.v1. --field-selector involvedObject.name=other");
    assert_eq!(old["items"][0]["message"], "it was seen");
    assert_eq!(old["items"][0]["series"]["count"], 3);
    let new = cluster.json("get events.v1.events.k8s.io --field-selector regarding.name=other");
    assert_eq!(new["items"][0]["apiVersion"], "events.k8s.io/v1");
    assert_eq!(new["items"][0]["note"], "it was seen");
    let wrong =
        cluster.try_kubectl("get events.v1. --field-selector regarding.name=other").failed();
    assert!(wrong.contains("field label not supported: regarding.name"), "{wrong}");
    cluster.kubectl("delete events.v1. seen");
    let gone = cluster.try_kubectl("get events.v1.events.k8s.io seen").failed();
    assert!(gone.contains("events.events.k8s.io \"seen\" not found"), "{gone}");
}

/// Kinds that are not Kubernetes' own have no strategic merge.
fn strategy(resource: &str) -> &'static str {
    let custom = ["loadbalancerpolicies", "serviceexports", "serviceimports", "topologypolicies"];
    if custom.contains(&plural(resource)) { "merge" } else { "strategic" }
}

/// A resource without version and group.
fn plural(resource: &str) -> &str {
    resource.split('.').next().unwrap_or_default()
}

#[test]
fn services_get_addresses_of_further_ranges() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    let range = |name: &str, range: &str| {
        cluster.apply(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {{name: {name}}}, \
             spec: {{cidrs: ['{range}']}}}}"
        ));
    };
    let ready = |name: &str| {
        let path = "{.status.conditions[0].status}/{.status.conditions[0].message}";
        cluster.kubectl(&format!("get servicecidr {name} -o jsonpath={path}"))
    };
    // Nobody else has addresses there: tests that run beside this one have others.
    let [_, _, third, fourth] = std::process::id().to_be_bytes();
    let more = format!("127.{}.{third}.{}/28", 250, fourth & 0xf0);
    let address = format!("127.250.{third}.{}", (fourth & 0xf0) + 5);
    range("more", &more);
    range("far", "10.96.0.0/16");
    cluster.kubectl(
        "wait servicecidr/more servicecidr/kubernetes --for=condition=Ready --timeout=20s",
    );
    cluster.kubectl("wait servicecidr/far --for=condition=Ready=false --timeout=20s");
    assert!(ready("far").contains("cannot be served"), "{}", ready("far"));
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{clusterIP: {address}, selector: \
         {{app: web}}, ports: [{{port: 8080}}]}}}}"
    ));
    cluster.kubectl("run web --image=web:1 --labels=app=web --port=8080");
    cluster.kubectl("wait pod/web --for=condition=Ready --timeout=30s");
    cluster.endpoints_ready("web", 1);
    assert_eq!(crate::http::ask(&format!("http://{address}:8080/"))["pod"], "web");
    let refused = cluster.try_apply(
        "{apiVersion: v1, kind: Service, metadata: {name: outside}, spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}}",
    );
    assert!(refused.failed().contains("the provided network does not match the current range"));
    cluster.kubectl("delete servicecidr more --wait=false");
    eventually("the range waits for its Service", || {
        let told = ready("more");
        wanted(told.starts_with("False/There are still IPAddresses"), told)
    });
    cluster.kubectl("delete service web");
    cluster.kubectl("wait servicecidr/more --for=delete --timeout=20s");
}

#[test]
fn what_every_cluster_has() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let names = |what: &str| cluster.kubectl(&format!("get {what} -o name"));
    for (what, name) in [
        ("clusterroles", "cluster-admin"),
        ("clusterroles", "view"),
        ("clusterrolebindings", "cluster-admin"),
        ("apiservices", "v1.apps"),
        ("flowschemas", "exempt"),
        ("prioritylevelconfigurations", "catch-all"),
        ("componentstatuses", "scheduler"),
    ] {
        let all = names(what);
        assert!(all.lines().any(|line| line.ends_with(&format!("/{name}"))), "{what}: {all}");
    }
    let table = cluster.kubectl("get apiservice v1.apps");
    assert!(table.contains("Local") && table.contains("True"), "{table}");
    let healthy = cluster.kubectl("get cs scheduler");
    assert!(healthy.contains("Healthy"), "{healthy}");
    cluster.apply(
        "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: web}, spec: {maxReplicas: 3, \
         targetCPUUtilizationPercentage: 70, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}}",
    );
    let old = cluster.json("get horizontalpodautoscalers.v1.autoscaling web");
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 70);
    let new = cluster.json("get horizontalpodautoscalers.v2.autoscaling web");
    assert_eq!(new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
}
