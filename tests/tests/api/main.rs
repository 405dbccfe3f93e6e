//! What clients of the etcd API and of the resource API get from clusters that
//! are well.

mod admission;
mod api_diff;
mod audit;
mod authorization;
mod auto_compaction;
mod client_users;
mod clients;
mod compaction;
mod concurrency;
mod conformance;
mod encryption;
mod endpoints;
mod etcd_suite;
mod etcdctl;
mod fairness;
mod flags;
mod gateway;
mod go_conformance;
mod h2spec;
mod import;
mod kubeadm;
mod kubectl;
mod malformed;
mod metrics;
mod migrate;
mod oidc;
mod pages;
mod requests;
mod resource_api;
mod restore;
mod snapshot;
mod status_page;
mod takeover;
mod tls;
