//! `DefaultStorageClass` and `DefaultIngressClass`: the class that is marked as
//! the default, the newest of several.

use futures::future::BoxFuture;

use super::{
    Asked, Plugin, Verdict,
    asked::{annotation, read, spec},
};
use crate::object;

pub struct DefaultStorageClass;
pub struct DefaultIngressClass;

const STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";
/// What named a class before there was a field.
const BETA_STORAGE: &str = "volume.beta.kubernetes.io/storage-class";
const OLD_INGRESS: &str = "kubernetes.io/ingress.class";

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "persistentvolumeclaims")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let has = has(asked, "storageClassName", BETA_STORAGE);
        if asked.creates()
            && !has
            && let Some(name) = default(asked, "storage.k8s.io", "storageclasses", &STORAGE)
        {
            spec(asked.object_mut()).insert("storageClassName".to_owned(), name.into());
        }
        Box::pin(async { Ok(()) })
    }
}

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("networking.k8s.io", "ingresses")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let has = has(asked, "ingressClassName", OLD_INGRESS);
        if asked.creates()
            && !has
            && let Some(name) = default(asked, "networking.k8s.io", "ingressclasses", &[INGRESS])
        {
            spec(asked.object_mut()).insert("ingressClassName".to_owned(), name.into());
        }
        Box::pin(async { Ok(()) })
    }
}

/// Whether a class is named, if only to say that there is none.
fn has(asked: &Asked<'_>, field: &str, old: &str) -> bool {
    let named = object::at(asked.object(), &["spec", field]);
    named.is_some_and(|name| !name.is_null()) || annotation(asked.object(), old).is_some()
}

/// The name of the class that is marked by one of these annotations.
fn default(asked: &Asked<'_>, group: &str, plural: &str, marks: &[&str]) -> Option<String> {
    let classes = asked.all(group, plural, "");
    let marked = classes.iter().filter_map(|entry| {
        let class = read(entry)?;
        let marked = marks
            .iter()
            .any(|mark| annotation(&class, mark) == Some("true"));
        let made = object::meta_str(&class, "creationTimestamp").to_owned();
        marked.then(|| (made, entry.names().1.to_owned()))
    });
    // The newest; of the same second the first by name.
    let newest = marked.max_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
    newest.map(|(_, name)| name)
}
