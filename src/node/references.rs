//! What a pod refers to: the Secrets and ConfigMaps without which it does not start, and its RuntimeClass.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Container, KeyToPath, Pod, PodSpec, Volume, VolumeProjection},
    node::v1::RuntimeClass,
};
use serde::Deserialize;

use crate::{
    model::{Kind, ObjectKey, kind, pod::all_containers},
    registry::View,
};

/// Every namespace has this ConfigMap; when it is missing, it is being made.
const AUTHORITY: &str = "kube-root-ca.crt";

/// What a pod needs and has not, in kubelet's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// About each volume that cannot be set up.
    pub(crate) volumes: Vec<String>,
    /// By container, why it cannot be configured.
    pub(crate) containers: BTreeMap<String, String>,
}

impl Missing {
    /// Whether nothing of the pod can start: there is no place for its files, or an init container cannot be made.
    pub(crate) fn holds(&self, spec: &PodSpec) -> bool {
        let mut init = spec.init_containers.iter().flatten();
        !self.volumes.is_empty() || init.any(|own| self.containers.contains_key(&own.name))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.containers.is_empty()
    }
}

/// Where values come from.
#[derive(Clone, Copy)]
enum Source {
    ConfigMap,
    Secret,
}

/// One reference to a Secret or ConfigMap.
struct Reference<'a> {
    source: Source,
    name: &'a str,
    optional: Option<bool>,
}

/// What is read of a Secret or ConfigMap: the names of its values.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Values {
    data: BTreeMap<String, serde::de::IgnoredAny>,
    binary_data: BTreeMap<String, serde::de::IgnoredAny>,
}

/// The handler of a pod's RuntimeClass.
pub(crate) fn runtime_handler(view: &View, pod: &Pod) -> Option<String> {
    let class = pod.spec.as_ref()?.runtime_class_name.as_deref()?;
    let class = view.get(&ObjectKey::cluster(&kind::RUNTIME_CLASS, class))?;
    Some(class.parse::<RuntimeClass>().ok()?.handler)
}

/// Looks whether everything is there that a pod refers to.
pub(crate) fn missing(view: &View, namespace: &str, spec: &PodSpec) -> Missing {
    let place = Place { view, namespace };
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| {
        let why = place.volume(volume)?;
        Some(format!("MountVolume.SetUp failed for volume {:?} : {why}", volume.name))
    });
    let containers = all_containers(spec)
        .filter_map(|own| Some((own.name.clone(), place.container(own)?)))
        .collect();
    Missing { volumes: volumes.collect(), containers }
}

struct Place<'a> {
    view: &'a View,
    namespace: &'a str,
}

impl Place<'_> {
    /// The names of the values, or why there are none; `None` when nobody minds.
    fn find(&self, reference: &Reference<'_>) -> Option<Result<BTreeSet<String>, String>> {
        let kind = reference.source.kind();
        if matches!(reference.source, Source::ConfigMap) && reference.name == AUTHORITY {
            return None;
        }
        let key = ObjectKey::new(kind, self.namespace, reference.name);
        match self.view.get(&key) {
            Some(found) => {
                let Values { data, binary_data } = found.parse().unwrap_or_default();
                Some(Ok(data.into_keys().chain(binary_data.into_keys()).collect()))
            }
            None if reference.optional == Some(true) => None,
            None => Some(Err(format!("{} {:?} not found", kind.singular, reference.name))),
        }
    }

    fn container(&self, container: &Container) -> Option<String> {
        let all = container.env_from.iter().flatten().filter_map(|from| {
            let map = from.config_map_ref.as_ref().map(|from| {
                let (source, name) = (Source::ConfigMap, from.name.as_str());
                Reference { source, name, optional: from.optional }
            });
            let secret = from.secret_ref.as_ref().map(|from| {
                let (source, name) = (Source::Secret, from.name.as_str());
                Reference { source, name, optional: from.optional }
            });
            self.find(&map.or(secret)?)?.err()
        });
        let single = container.env.iter().flatten().filter_map(|variable| {
            let from = variable.value_from.as_ref()?;
            let map = from.config_map_key_ref.as_ref().map(|from| {
                let (source, name) = (Source::ConfigMap, from.name.as_str());
                (Reference { source, name, optional: from.optional }, from.key.as_str())
            });
            let secret = from.secret_key_ref.as_ref().map(|from| {
                let (source, name) = (Source::Secret, from.name.as_str());
                (Reference { source, name, optional: from.optional }, from.key.as_str())
            });
            let (reference, key) = map.or(secret)?;
            match self.find(&reference)? {
                Err(why) => Some(why),
                Ok(keys) if keys.contains(key) || reference.optional == Some(true) => None,
                Ok(_) => {
                    let (kind, namespace) = (&reference.source.kind().kind, self.namespace);
                    let name = reference.name;
                    Some(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
                }
            }
        });
        all.chain(single).next()
    }

    fn volume(&self, volume: &Volume) -> Option<String> {
        if let Some(map) = &volume.config_map {
            let (source, name) = (Source::ConfigMap, map.name.as_str());
            let reference = Reference { source, name, optional: map.optional };
            return self.files(&reference, map.items.as_deref());
        }
        if let Some(secret) = &volume.secret {
            let (source, name) =
                (Source::Secret, secret.secret_name.as_deref().unwrap_or_default());
            let reference = Reference { source, name, optional: secret.optional };
            return self.files(&reference, secret.items.as_deref());
        }
        let sources =
            volume.projected.iter().flat_map(|projected| projected.sources.iter()).flatten();
        let faults: Vec<_> = sources.filter_map(|source| self.projection(source)).collect();
        match faults.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("[{}]", many.join(", "))),
        }
    }

    fn projection(&self, projection: &VolumeProjection) -> Option<String> {
        if let Some(map) = &projection.config_map {
            let (source, name) = (Source::ConfigMap, map.name.as_str());
            let reference = Reference { source, name, optional: map.optional };
            return self.files(&reference, map.items.as_deref());
        }
        let secret = projection.secret.as_ref()?;
        let (source, name) = (Source::Secret, secret.name.as_str());
        let reference = Reference { source, name, optional: secret.optional };
        self.files(&reference, secret.items.as_deref())
    }

    fn files(&self, reference: &Reference<'_>, items: Option<&[KeyToPath]>) -> Option<String> {
        let keys = match self.find(reference)? {
            Ok(keys) => keys,
            Err(why) => return Some(why),
        };
        let mut wanted = items.into_iter().flatten();
        let lost = wanted.find(|item| !keys.contains(&item.key))?;
        (reference.optional != Some(true)).then(|| match reference.source {
            Source::ConfigMap => {
                format!("configmap references non-existent config key: {}", lost.key)
            }
            Source::Secret => format!("references non-existent secret key: {}", lost.key),
        })
    }
}

impl Source {
    fn kind(self) -> &'static Kind {
        match self {
            Self::ConfigMap => &kind::CONFIG_MAP,
            Self::Secret => &kind::SECRET,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Object, object::to_stored};

    fn check(spec: &Value) -> Missing {
        let mut view = View::for_tests();
        for (kind, name) in [(&kind::CONFIG_MAP, "map"), (&kind::SECRET, "secret")] {
            let document = json!({"metadata": {"name": name}, "data": {"a": "eA=="}});
            let key = ObjectKey::new(kind, "shop", name);
            view.insert(&Arc::new(Object::from_stored(key, 1, to_stored(kind, document)).unwrap()));
        }
        missing(&view, "shop", &serde_json::from_value(spec.clone()).unwrap())
    }

    #[test]
    fn volumes() {
        for (volume, expected) in [
            (json!({"emptyDir": {}}), ""),
            (json!({"configMap": {"name": "map"}}), ""),
            (json!({"secret": {"secretName": "secret", "items": [{"key": "a", "path": "p"}]}}), ""),
            (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
            (json!({"configMap": {"name": "none", "optional": true}}), ""),
            (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
            (
                json!({"secret": {"secretName": "secret", "items": [{"key": "b", "path": "p"}]}}),
                "references non-existent secret key: b",
            ),
            (
                json!({"configMap": {"name": "map", "items": [{"key": "b", "path": "p"}]}}),
                "configmap references non-existent config key: b",
            ),
            (
                json!({"configMap": {"name": "map", "optional": true, "items": [{"key": "b", "path": "p"}]}}),
                "",
            ),
            (
                json!({"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}},
                    {"secret": {"name": "secret"}}, {"secret": {"name": "one"}}]}}),
                "secret \"one\" not found",
            ),
            (
                json!({"projected": {"sources": [{"configMap": {"name": "two"}}, {"secret": {"name": "one"}}]}}),
                "[configmap \"two\" not found, secret \"one\" not found]",
            ),
        ] {
            let mut named = volume.clone();
            named["name"] = "v".into();
            let expected: Vec<_> = (!expected.is_empty())
                .then(|| format!("MountVolume.SetUp failed for volume \"v\" : {expected}"))
                .into_iter()
                .collect();
            let missing = check(&json!({"containers": [], "volumes": [named]}));
            assert_eq!((missing.volumes, missing.containers.len()), (expected, 0), "{volume}");
        }
    }

    #[test]
    fn variables() {
        let one = |from: Value| json!({"env": [{"name": "X", "valueFrom": from}]});
        let all = |from: Value| json!({"envFrom": [from]});
        for (container, expected) in [
            (json!({"env": [{"name": "X", "value": "y"}]}), ""),
            (one(json!({"secretKeyRef": {"name": "secret", "key": "a"}})), ""),
            (
                one(json!({"secretKeyRef": {"name": "secret", "key": "b"}})),
                "couldn't find key b in Secret shop/secret",
            ),
            (one(json!({"secretKeyRef": {"name": "secret", "key": "b", "optional": true}})), ""),
            (
                one(json!({"configMapKeyRef": {"name": "map", "key": "b"}})),
                "couldn't find key b in ConfigMap shop/map",
            ),
            (
                one(json!({"configMapKeyRef": {"name": "none", "key": "a"}})),
                "configmap \"none\" not found",
            ),
            (one(json!({"fieldRef": {"fieldPath": "metadata.name"}})), ""),
            (all(json!({"secretRef": {"name": "secret"}})), ""),
            (all(json!({"secretRef": {"name": "none"}})), "secret \"none\" not found"),
            (all(json!({"configMapRef": {"name": "none", "optional": true}})), ""),
            (all(json!({"configMapRef": {"name": "none"}})), "configmap \"none\" not found"),
        ] {
            let mut named = container.clone();
            named["name"] = "c".into();
            let missing = check(&json!({"containers": [named]}));
            let told = missing.containers.get("c").map_or("", String::as_str);
            assert_eq!(told, expected, "{container}");
        }
    }
}
