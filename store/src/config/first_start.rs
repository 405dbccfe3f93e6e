//! What only a member without data needs: who the first members are, and the
//! ids that follow. As in etcd nothing of it is looked at, let alone refused,
//! once the member has data.

use std::collections::BTreeMap;

use super::{
    DEFAULT_NAME, DEFAULT_PEER_URL, InitialClusterState,
    discovery::Discovery,
    error::Error,
    identity::{self, Identity},
    peers,
    settings::Settings,
    url::{self, Url},
    urls::strings,
};

/// The flags of a first start, as given.
#[derive(Debug, Clone)]
pub struct FirstStart {
    name: String,
    advertised: Vec<Url>,
    initial_cluster: String,
    state: InitialClusterState,
    token: String,
    /// How to find the others, until they are found.
    discovery: Option<Discovery>,
    /// What was most likely forgotten if the rest does not fit.
    unset: Vec<&'static str>,
}

/// The first members, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Peer URLs of the first members by name, in their printed form. Contains
    /// this member.
    pub cluster: BTreeMap<String, Vec<String>>,
    /// The ids that follow from `cluster` and the token. They are the
    /// cluster's only if the member does not join an existing one.
    pub identity: Identity,
}

impl FirstStart {
    pub(super) fn new(
        settings: &Settings,
        name: &str,
        advertised: &[Url],
        state: InitialClusterState,
        discovery: Option<Discovery>,
    ) -> Self {
        let token = match &discovery {
            Some(discovery) => &discovery.token,
            None => settings.text("initial-cluster-token"),
        };
        Self {
            name: name.to_owned(),
            advertised: advertised.to_vec(),
            initial_cluster: settings.text("initial-cluster").to_owned(),
            state,
            token: token.to_owned(),
            discovery,
            unset: ["initial-cluster", "initial-advertise-peer-urls"]
                .into_iter()
                .filter(|flag| !settings.is_set(flag))
                .collect(),
        }
    }

    /// How to find the other first members, if that has to be done, and what to tell
    /// them: the id of this member and an --initial-cluster of it alone.
    ///
    /// # Errors
    /// This member is not a first one.
    pub fn discovery(&self) -> Result<Option<(&Discovery, u64, String)>, Error> {
        let Some(discovery) = &self.discovery else {
            return Ok(None);
        };
        if self.state == InitialClusterState::Existing {
            return Err(Error::invalid(
                "discovery URL should not be set when joining existing initial cluster",
            ));
        }
        let own = self.bootstrap()?.identity.member_id;
        let alone = url::print_cluster(&self.cluster()?);
        Ok(Some((discovery, own, alone)))
    }

    /// The first members have been found, in the form of --initial-cluster.
    pub fn found(&mut self, cluster: String) {
        self.initial_cluster = cluster;
        self.discovery = None;
    }

    /// Checks the flags and computes the ids. May look names up, and so wait.
    pub fn bootstrap(&self) -> Result<Bootstrap, Error> {
        let cluster = self.cluster()?;
        self.check(&cluster)?;
        Ok(Bootstrap {
            identity: identity::identify(&cluster, &self.name, &self.token)?,
            cluster: cluster
                .iter()
                .map(|(name, urls)| (name.clone(), strings(urls)))
                .collect(),
        })
    }

    /// The initial cluster as given; else this member alone. As in etcd a
    /// member that was given neither a name nor a cluster stands at the default
    /// URL, so that other advertised URLs are found not to match.
    fn cluster(&self) -> Result<BTreeMap<String, Vec<Url>>, Error> {
        match (self.initial_cluster.as_str(), self.name.as_str()) {
            (_, name) if self.discovery.is_some() => {
                Ok(BTreeMap::from([(name.to_owned(), self.advertised.clone())]))
            }
            ("", "" | DEFAULT_NAME) => {
                url::parse_cluster(&format!("{DEFAULT_NAME}={DEFAULT_PEER_URL}"))
            }
            ("", name) => Ok(BTreeMap::from([(name.to_owned(), self.advertised.clone())])),
            (given, _) => url::parse_cluster(given),
        }
        .map_err(|reason| Error::invalid(format!("error setting up initial cluster: {reason}")))
    }

    fn check(&self, cluster: &BTreeMap<String, Vec<Url>>) -> Result<(), Error> {
        let name = &self.name;
        let Some(listed) = cluster.get(name) else {
            return Err(Error::invalid(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            )));
        };
        if self.state == InitialClusterState::New {
            peers::advertised_match(name, &self.advertised, listed, peers::resolve)
                .map_err(|text| Error::invalid(self.hint(text)))?;
        }
        let mut all: Vec<&str> = cluster.values().flatten().map(Url::as_str).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        if all.len() != count {
            return Err(Error::invalid(format!(
                "initial cluster {} has duplicate url",
                url::print_cluster(cluster)
            )));
        }
        Ok(())
    }

    /// Adds what was most likely forgotten, as etcd does in its log.
    fn hint(&self, mut text: String) -> String {
        for flag in &self.unset {
            text.push_str(&format!("; forgot to set --{flag}?"));
        }
        text
    }
}
