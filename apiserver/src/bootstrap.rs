//! What must be there before clients come: the system's namespaces.

use serde_json::json;

use crate::{
    codec::json::{self, Source},
    error::ApiError,
    registry::{Registry, Target, WriteOptions},
    schema::find_resource,
};

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates what is missing. Any number of servers may do so at once.
pub async fn run(registry: &Registry) -> Result<(), ApiError> {
    let resource = find_resource("", "v1", "namespaces")
        .ok_or_else(|| ApiError::internal("no namespaces in the table"))?;
    for name in NAMESPACES {
        let target = Target {
            resource,
            namespace: String::new(),
            name: (*name).to_owned(),
            sub: None,
        };
        if registry.get(&target, None).await.is_ok() {
            continue;
        }
        let text = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
            .to_string();
        let body = json::decode(text.as_bytes(), resource.message, Source::Client)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        match registry
            .create(&target, body, WriteOptions::default())
            .await
        {
            Ok(_) => {}
            // Another server was faster.
            Err(error) if error.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
