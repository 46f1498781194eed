//! Names that several subsystems read or write in objects: labels, annotations, finalizers, types of conditions.
//! Kubernetes' own are called as in its API packages. What one file alone uses stays there.

// Labels.

/// The name of a node, on the node.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// The zone of a node.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The former name of `kubernetes.io/os`.
pub const BETA_OS_LABEL: &str = "beta.kubernetes.io/os";
/// The former name of `kubernetes.io/arch`.
pub const BETA_ARCH_LABEL: &str = "beta.kubernetes.io/arch";
/// The Service of an EndpointSlice.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The controller or person that manages an EndpointSlice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// `true` on Endpoints that are not mirrored to EndpointSlices.
pub const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Marks EndpointSlices and Endpoints of headless Services.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Who keeps an APIService: `onstart` those of built-in groups, `true` those of CustomResourceDefinitions.
pub const AUTOMANAGED_LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The Job of a pod.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

// Annotations.

/// What `kubectl apply` without `--server-side` was last given.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// When the change happened that an EndpointSlice or Endpoints shows.
pub const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// On EndpointSlices whose hints come from topology mode `Auto`, which is its value: nothing else tells them from those
/// of `trafficDistribution`.
pub const HINTS_ANNOTATION: &str = "snowglobe.dev/hints";
/// Asks for hints in proportion to the CPU of each zone: `Auto`.
pub const TOPOLOGY_MODE_ANNOTATION: &str = "service.kubernetes.io/topology-mode";
/// The former name of [`TOPOLOGY_MODE_ANNOTATION`], which goes before it.
pub const TOPOLOGY_HINTS_ANNOTATION: &str = "service.kubernetes.io/topology-aware-hints";
/// The ServiceAccount of a token's Secret.
pub const ACCOUNT_NAME_ANNOTATION: &str = "kubernetes.io/service-account.name";
/// On pods that stand for a part of this process, which is its value. They are not collected, evicted or preempted: they
/// would come back at once.
pub const PART_ANNOTATION: &str = "snowglobe.dev/part";
/// Where a pod really listens, by port: a JSON map, `{"80/TCP": 41234}`.
pub const BOUND_PORTS_ANNOTATION: &str = "snowglobe.dev/bound-ports";
/// The LoadBalancerPolicy of a Service.
pub const LOAD_BALANCER_POLICY_ANNOTATION: &str = "snowglobe.dev/load-balancer-policy";
/// The TopologyPolicy of a Service.
pub const TOPOLOGY_POLICY_ANNOTATION: &str = "snowglobe.dev/topology-policy";

// Types of Secrets.

/// A Secret that holds a token of a ServiceAccount.
pub const ACCOUNT_TOKEN_SECRET: &str = "kubernetes.io/service-account-token";

// Finalizers.

/// The owner waits until the garbage collector has deleted its dependents.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// The owner waits until the garbage collector has taken its dependents' references to it.
pub const ORPHAN_FINALIZER: &str = "orphan";

// Types of conditions.

/// A Node takes pods.
pub const NODE_READY: &str = "Ready";
/// A ServiceCIDR can be used.
pub const SERVICE_CIDR_READY: &str = "Ready";
/// A policy's module is loaded.
pub const POLICY_READY: &str = "Ready";
/// A LoadBalancerPolicy picks wherever it is named.
pub const POLICY_HEALTHY: &str = "Healthy";
/// A Pod gets traffic.
pub const POD_READY: &str = "Ready";
/// All containers of a Pod are ready.
pub const CONTAINERS_READY: &str = "ContainersReady";
/// All init containers of a Pod are done.
pub const POD_INITIALIZED: &str = "Initialized";
/// A Pod has a node.
pub const POD_SCHEDULED: &str = "PodScheduled";
/// A Pod is about to be deleted by the cluster.
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// A Job does not run, because it was told so.
pub const JOB_SUSPENDED: &str = "Suspended";
/// A Job is about to be [complete](JOB_COMPLETE).
pub const JOB_SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// A Job is about to have [failed](JOB_FAILED).
pub const JOB_FAILURE_TARGET: &str = "FailureTarget";
/// A Job has succeeded.
pub const JOB_COMPLETE: &str = "Complete";
/// A Job has failed.
pub const JOB_FAILED: &str = "Failed";

/// The finalizer of a CustomResourceDefinition, which goes after its objects.
pub const DEFINITION_CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

// Numbers of APIServices.

/// `groupPriorityMinimum` of groups that CustomResourceDefinitions bring.
pub const CUSTOM_GROUP_PRIORITY: i64 = 1000;
/// Their `versionPriority`.
pub const CUSTOM_VERSION_PRIORITY: i64 = 100;
