//! `StorageObjectInUseProtection`: what is in use is not gone before its user.

use futures::future::BoxFuture;

use super::{Asked, Plugin, Verdict};
use crate::object;

pub struct StorageObjectInUseProtection;

/// The resources, and the finalizer of each.
const FINALIZERS: [(&str, &str); 3] = [
    ("persistentvolumes", "kubernetes.io/pv-protection"),
    ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("volumeattributesclasses", "kubernetes.io/vac-protection"),
];

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "persistentvolumes"),
            ("", "persistentvolumeclaims"),
            ("storage.k8s.io", "volumeattributesclasses"),
        ]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let of = FINALIZERS.iter().find(|(plural, _)| asked.is_about(plural));
        if let Some((_, finalizer)) = of.filter(|_| asked.creates()) {
            let mut all = object::finalizers(asked.object());
            if !all.iter().any(|one| one == finalizer) {
                all.push((*finalizer).to_owned());
                object::set_meta(asked.object_mut(), "finalizers", Some(all.into()));
            }
        }
        Box::pin(async { Ok(()) })
    }
}
