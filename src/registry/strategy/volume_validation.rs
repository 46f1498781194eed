//! Validation of the volumes of a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, PodSpec, ProjectedVolumeSource, Volume, VolumeProjection,
};

use crate::{
    model::{Cause, quantity},
    registry::strategy::{
        checks,
        field_references::{self, OF_FILES},
        fields::{items, text},
    },
};

const MODE_RULE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const MODE_MAX: i32 = 0o777;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const HOST_PATHS: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Gives the names of the volumes.
pub(super) fn volumes(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (i, volume) in items(&spec.volumes).iter().enumerate() {
        let path = format!("{path}.volumes[{i}]");
        one_source(causes, &path, volume);
        let field = format!("{path}.name");
        if volume.name.is_empty() {
            causes.push(Cause::required(field, ""));
            continue;
        }
        checks::label(causes, &field, &volume.name);
        if !names.insert(volume.name.clone()) {
            causes.push(Cause::duplicate(field, volume.name.as_str()));
        }
    }
    names
}

/// The first source is the one that counts.
fn one_source(causes: &mut Vec<Cause>, path: &str, volume: &Volume) {
    let given = sources(volume).into_iter().filter(|(_, given)| *given).map(|(field, _)| field);
    let mut given = given.collect::<Vec<_>>().into_iter();
    match given.next() {
        None => causes.push(Cause::required(path, "must specify a volume type")),
        Some(first) => source(causes, &format!("{path}.{first}"), volume, first),
    }
    for more in given {
        let rule = "may not specify more than 1 volume type";
        causes.push(Cause::forbidden(format!("{path}.{more}"), rule));
    }
}

/// What a volume can be, in the order in which Kubernetes looks.
fn sources(volume: &Volume) -> [(&'static str, bool); 30] {
    [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephFS", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ]
}

/// The rules of those sources that are in common use.
fn source(causes: &mut Vec<Cause>, path: &str, volume: &Volume, which: &str) {
    let empty = |causes: &mut Vec<Cause>, field: &str, value: &str| {
        if value.is_empty() {
            causes.push(Cause::required(format!("{path}.{field}"), ""));
        }
    };
    if let (Some(directory), "emptyDir") = (&volume.empty_dir, which) {
        let limit = directory.size_limit.as_ref().and_then(|limit| quantity::nano(&limit.0));
        if limit.is_some_and(|limit| limit < 0) {
            let rule = "SizeLimit field must be a valid resource quantity";
            causes.push(Cause::forbidden(format!("{path}.sizeLimit"), rule));
        }
    } else if let (Some(host), "hostPath") = (&volume.host_path, which) {
        empty(causes, "path", &host.path);
        no_backsteps(causes, &format!("{path}.path"), &host.path);
        checks::one_of(causes, &format!("{path}.type"), text(&host.type_), HOST_PATHS);
    } else if let (Some(secret), "secret") = (&volume.secret, which) {
        empty(causes, "secretName", text(&secret.secret_name));
        files(causes, path, secret.default_mode, items(&secret.items));
    } else if let (Some(map), "configMap") = (&volume.config_map, which) {
        empty(causes, "name", &map.name);
        files(causes, path, map.default_mode, items(&map.items));
    } else if let (Some(fields), "downwardAPI") = (&volume.downward_api, which) {
        mode(causes, &format!("{path}.defaultMode"), fields.default_mode);
        for file in items(&fields.items) {
            downward_file(causes, path, file);
        }
    } else if let (Some(projected), "projected") = (&volume.projected, which) {
        projection(causes, path, projected);
    } else if let (Some(claim), "persistentVolumeClaim") = (&volume.persistent_volume_claim, which)
    {
        empty(causes, "claimName", &claim.claim_name);
    } else if let (Some(nfs), "nfs") = (&volume.nfs, which) {
        empty(causes, "server", &nfs.server);
        empty(causes, "path", &nfs.path);
        if !nfs.path.starts_with('/') {
            let field = format!("{path}.path");
            causes.push(Cause::invalid(field, nfs.path.as_str(), "must be an absolute path"));
        }
    } else if let (Some(csi), "csi") = (&volume.csi, which) {
        empty(causes, "driver", &csi.driver);
    } else if let (Some(own), "ephemeral") = (&volume.ephemeral, which)
        && own.volume_claim_template.is_none()
    {
        causes.push(Cause::required(format!("{path}.volumeClaimTemplate"), ""));
    }
}

fn projection(causes: &mut Vec<Cause>, path: &str, projected: &ProjectedVolumeSource) {
    mode(causes, &format!("{path}.defaultMode"), projected.default_mode);
    let mut seen = BTreeSet::new();
    for (i, source) in items(&projected.sources).iter().enumerate() {
        let own = format!("{path}.sources[{i}]");
        projected_source(causes, &own, source);
        for file in projected_paths(source).filter(|file| !file.is_empty()) {
            if !seen.insert(file.to_owned()) {
                causes.push(Cause::invalid(path, file, "conflicting duplicate paths"));
            }
        }
    }
}

fn projected_source(causes: &mut Vec<Cause>, path: &str, source: &VolumeProjection) {
    if let Some(secret) = &source.secret {
        let path = format!("{path}.secret");
        if secret.name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        files(causes, &path, None, items(&secret.items));
    }
    if let Some(map) = &source.config_map {
        let path = format!("{path}.configMap");
        if map.name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        files(causes, &path, None, items(&map.items));
    }
    for file in source.downward_api.iter().flat_map(|fields| items(&fields.items)) {
        downward_file(causes, &format!("{path}.downwardAPI"), file);
    }
    if let Some(token) = &source.service_account_token
        && let Some(seconds) = token.expiration_seconds
    {
        let rule = if seconds < TOKEN_SECONDS_MIN {
            "may not specify a duration less than 10 minutes"
        } else if seconds > TOKEN_SECONDS_MAX {
            "may not specify a duration larger than 2^32 seconds"
        } else {
            ""
        };
        if !rule.is_empty() {
            let field = format!("{path}.serviceAccountToken.expirationSeconds");
            causes.push(Cause::invalid(field, seconds, rule));
        }
    }
    let given = [
        source.secret.is_some(),
        source.config_map.is_some(),
        source.downward_api.is_some(),
        source.service_account_token.is_some(),
        source.cluster_trust_bundle.is_some(),
        source.pod_certificate.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        causes.push(Cause::forbidden(path, "may not specify more than 1 volume type per source"));
    }
}

fn projected_paths(source: &VolumeProjection) -> impl Iterator<Item = &str> {
    let keys = source.secret.iter().flat_map(|own| items(&own.items));
    let keys = keys.chain(source.config_map.iter().flat_map(|own| items(&own.items)));
    let fields = source.downward_api.iter().flat_map(|own| items(&own.items));
    keys.map(|key| key.path.as_str()).chain(fields.map(|file| file.path.as_str()))
}

fn files(causes: &mut Vec<Cause>, path: &str, default_mode: Option<i32>, keys: &[KeyToPath]) {
    mode(causes, &format!("{path}.defaultMode"), default_mode);
    for (i, key) in keys.iter().enumerate() {
        let path = format!("{path}.items[{i}]");
        if key.key.is_empty() {
            causes.push(Cause::required(format!("{path}.key"), ""));
        }
        file_path(causes, &format!("{path}.path"), &key.path);
        mode(causes, &format!("{path}.mode"), key.mode);
    }
}

fn downward_file(causes: &mut Vec<Cause>, path: &str, file: &DownwardAPIVolumeFile) {
    file_path(causes, &format!("{path}.path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            field_references::field(causes, &format!("{path}.fieldRef"), field, OF_FILES);
            if resource.is_some() {
                let rule = "fieldRef and resourceFieldRef can not be specified simultaneously";
                causes.push(Cause::invalid(path, "resource", rule));
            }
        }
        (None, Some(resource)) => {
            let path = format!("{path}.resourceFieldRef");
            field_references::resource(causes, &path, resource, true);
        }
        (None, None) => {
            let rule = "one of fieldRef and resourceFieldRef is required";
            causes.push(Cause::required(path, rule));
        }
    }
    mode(causes, &format!("{path}.mode"), file.mode);
}

fn mode(causes: &mut Vec<Cause>, field: &str, mode: Option<i32>) {
    if let Some(mode) = mode.filter(|mode| !(0..=MODE_MAX).contains(mode)) {
        causes.push(Cause::invalid(field, mode, MODE_RULE));
    }
}

/// A path below the volume whose first part is free for files.
fn file_path(causes: &mut Vec<Cause>, field: &str, path: &str) {
    if path.is_empty() {
        causes.push(Cause::required(field, ""));
    }
    below(causes, field, path);
    if path.starts_with("..") && !path.starts_with("../") {
        causes.push(Cause::invalid(field, path, "must not start with '..'"));
    }
}

/// A path that does not lead out of where it begins.
pub(super) fn below(causes: &mut Vec<Cause>, field: &str, path: &str) {
    if path.starts_with('/') {
        causes.push(Cause::invalid(field, path, "must be a relative path"));
    }
    no_backsteps(causes, field, path);
}

fn no_backsteps(causes: &mut Vec<Cause>, field: &str, path: &str) {
    if path.split('/').any(|part| part == "..") {
        causes.push(Cause::invalid(field, path, "must not contain '..'"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::checks::testing::{lines, merged, object};

    #[test]
    fn sources_and_paths() {
        for (volume, expected) in [
            (json!({"emptyDir": {"sizeLimit": "1Gi"}}), vec![]),
            (
                json!({"emptyDir": {"sizeLimit": "-1"}}),
                vec![
                    "s.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
                ],
            ),
            (
                json!({"configMap": {"name": "m"}, "secret": {"secretName": "s"}, "emptyDir": {}}),
                vec![
                    "s.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
                    "s.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
                ],
            ),
            (json!({}), vec!["s.volumes[0]: Required value: must specify a volume type"]),
            (
                json!({"hostPath": {"path": "/a/../b", "type": "Pipe"}}),
                vec![
                    "s.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                    "s.volumes[0].hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\", \
                     \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                ],
            ),
            (
                json!({"secret": {"secretName": "s", "defaultMode": 512, "items": [{"key": "k", "path": "/p"}]}}),
                vec![
                    "s.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                    "s.volumes[0].secret.items[0].path: Invalid value: \"/p\": must be a relative path",
                ],
            ),
            (
                json!({"downwardAPI": {"items": [{"path": "..p", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}},
                    {"path": "q"}]}}),
                vec![
                    "s.volumes[0].downwardAPI.path: Invalid value: \"..p\": must not start with '..'",
                    "s.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                ],
            ),
            (
                json!({"projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}, "configMap": {"name": "c"}},
                    {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
                    {"serviceAccountToken": {"path": "t", "expirationSeconds": 9}}]}}),
                vec![
                    "s.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
                    "s.volumes[0].projected: Invalid value: \"p\": conflicting duplicate paths",
                    "s.volumes[0].projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 9: may not \
                     specify a duration less than 10 minutes",
                ],
            ),
        ] {
            let named = merged(json!({"name": "v"}), &volume);
            let spec = object(json!({"containers": [], "volumes": [named]}));
            let mut causes = Vec::new();
            volumes(&mut causes, "s", &spec);
            assert_eq!(lines(&causes), expected, "{volume}");
        }
    }
}
