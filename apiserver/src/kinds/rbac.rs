//! The kinds of the group `rbac.authorization.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&ROLE_BINDING, &ROLE, &CLUSTER_ROLE_BINDING, &CLUSTER_ROLE];

const ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    plural: "rolebindings",
    kind: "RoleBinding",
    namespaced: true,
    place: "rolebindings",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: true,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::binding),
    validate: None,
    validate_change: Some(|value, current, errors| {
        validate::fixed(&[&["roleRef"]], value, current, errors)
    }),
    columns: &[
        Column("Role", false, |value| {
            format!(
                "{}/{}",
                object::str_at(value, &["roleRef", "kind"]),
                object::str_at(value, &["roleRef", "name"])
            )
            .into()
        }),
        AGE,
    ],
};

const ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    plural: "roles",
    kind: "Role",
    namespaced: true,
    place: "roles",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: true,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(|value, errors| validate::kinds::role(value, true, errors)),
    validate_change: None,
    columns: &[AGE],
};

const CLUSTER_ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    plural: "clusterrolebindings",
    kind: "ClusterRoleBinding",
    namespaced: false,
    place: "clusterrolebindings",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: true,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::binding),
    validate: None,
    validate_change: Some(|value, current, errors| {
        validate::fixed(&[&["roleRef"]], value, current, errors)
    }),
    columns: &[
        Column("Role", false, |value| {
            format!(
                "{}/{}",
                object::str_at(value, &["roleRef", "kind"]),
                object::str_at(value, &["roleRef", "name"])
            )
            .into()
        }),
        AGE,
    ],
};

const CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    plural: "clusterroles",
    kind: "ClusterRole",
    namespaced: false,
    place: "clusterroles",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: true,
        unconditional: true,
    },
    generation: Generation::NONE,
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(|value, errors| validate::kinds::role(value, false, errors)),
    validate_change: None,
    columns: &[AGE],
};
