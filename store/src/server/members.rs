//! What members say of themselves: names and client URLs, replicated rows.
//! Who is a member, and at which peer URLs, is the raft group's to say.

use bytes::Bytes;
use mizzen_core::{Family, Overlay, View, ViewError};
use serde::{Deserialize, Serialize};

/// First byte of this module's keys in the Meta family.
const OWNER: u8 = 0x03;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub member: u64,
    pub name: String,
    pub client_urls: Vec<String>,
}

impl Attributes {
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("strings and numbers encode")
            .into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

fn key(member: u64) -> Bytes {
    let mut key = vec![OWNER];
    key.extend_from_slice(&member.to_be_bytes());
    key.into()
}

pub fn apply<V: View + ?Sized>(overlay: &mut Overlay<'_, V>, attributes: &Attributes) {
    overlay.put(Family::Meta, key(attributes.member), attributes.encode());
}

/// What `member` announced, if it has.
pub fn attributes<V: View + ?Sized>(
    view: &V,
    member: u64,
) -> Result<Option<Attributes>, ViewError> {
    let Some(row) = view.get(Family::Meta, &key(member))? else {
        return Ok(None);
    };
    Attributes::decode(&row).map(Some).map_err(|error| {
        ViewError::Failed(format!("the row of member {member:x} is damaged: {error}"))
    })
}
