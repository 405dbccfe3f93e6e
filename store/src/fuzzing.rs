//! What those make of any bytes who read the bytes of clients, peers and disks, for
//! the fuzzer in `fuzz/` only.
//!
//! Each function says shortly where its bytes led, for want of coverage, or what is
//! wrong with what was made of them.

use std::{
    fs,
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use mizzen_core::auth::AuthChange;
use mizzen_proto::etcdserverpb as wire;
use mizzen_sim::MemEngine;
use prost::Message;
use ring::hmac;

use crate::{
    auth::{Jwt, JwtOptions},
    etcd_file,
    grpc::auth_change as change,
    http,
    server::{Proposal, Restore, own_level},
    tls::{Certificate, File},
};

pub type Verdict = Result<String, String>;

/// An entry of the log: what is understood is written as it was read.
pub fn proposal(bytes: &[u8]) -> Verdict {
    let Ok(first) = Proposal::decode(Bytes::copy_from_slice(bytes)) else {
        return Ok("refused".to_owned());
    };
    let again = Proposal::decode(first.encode(own_level()).content());
    match again {
        Ok(again) if again == first => Ok(kind(&first)),
        again => Err(format!("{first:?} came back as {again:?}")),
    }
}

/// The names in a value's debug text, which stand for the way it took.
fn kind(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let words = text.split(|c: char| !c.is_ascii_alphabetic());
    let names = words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    names.take(40).collect::<Vec<_>>().join(" ")
}

/// The shared secret of [`token`].
const SECRET: &[u8] = b"a secret of the fuzzer, 32 bytes";

static TOKENS: LazyLock<Jwt> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("mizzen-fuzz-{}", std::process::id()));
    fs::write(&file, SECRET).expect("a file with the secret");
    let options = JwtOptions {
        algorithm: Algorithm::HS256,
        public_key: None,
        private_key: Some(file.clone()),
        ttl: Duration::from_secs(60),
    };
    let tokens = Jwt::new(&options).expect("a secret");
    fs::remove_file(&file).expect("it was just there");
    tokens
});

/// A signed token: only the secret makes one that is right.
pub fn token(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let Some((name, _)) = TOKENS.verify(&text) else {
        return Ok("refused".to_owned());
    };
    let signature = text.rsplit_once('.').and_then(|(signed, signature)| {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        hmac::verify(&key, signed.as_bytes(), &signature).ok()
    });
    match signature {
        Some(()) => Ok("accepted".to_owned()),
        None => Err(format!("{name} by a token that nobody signed")),
    }
}

/// Files of certificates, keys and revocations, and one certificate as it comes in a
/// handshake.
pub fn certificate(bytes: &[u8]) -> Verdict {
    let file = File::of(bytes);
    let certificates = file.certificates();
    let mut ways = format!(
        "{} {} {}",
        certificates.is_ok(),
        file.key().is_ok(),
        file.serials().map_or(0, |serials| serials.len().min(9)),
    );
    let shown = certificates.into_iter().flatten();
    let all = shown.map(|certificate| certificate.to_vec());
    for der in all.chain([bytes.to_vec()]) {
        let Ok(certificate) = Certificate::parse(&der) else {
            continue;
        };
        let hosts = ["localhost", "a.b.example", "127.0.0.1", "[::1]", "", "."];
        let valid: Vec<_> = hosts.map(|host| certificate.is_valid_for(host)).to_vec();
        ways += &format!(
            " {valid:?} {} {}",
            certificate.dns_names.len().min(9),
            certificate.addresses.len().min(9)
        );
    }
    Ok(ways)
}

/// A change of users and roles as a client asks for it: the first byte says which.
/// What comes of it is written to the log as it was read.
pub fn change_of_users(bytes: &[u8]) -> Verdict {
    let Some((which, message)) = bytes.split_first() else {
        return Ok("nothing".to_owned());
    };
    fn read<R: Message + Default>(message: &[u8], of: fn(R) -> AuthChange) -> Option<AuthChange> {
        R::decode(message).ok().map(of)
    }
    let change = match which % 9 {
        0 => read(message, |request: wire::AuthEnableRequest| {
            change::enable(request)
        }),
        1 => read(message, change::disable),
        2 => read(message, change::user_delete),
        3 => read(message, change::user_grant_role),
        4 => read(message, change::user_revoke_role),
        5 => read(message, change::role_add),
        6 => read(message, change::role_delete),
        7 => read(message, change::role_grant_permission),
        _ => read(message, change::role_revoke_permission),
    };
    let Some(change) = change else {
        return Ok("refused".to_owned());
    };
    match AuthChange::decode(&change.encode()) {
        Ok(again) if again == change => Ok(kind(&change)),
        again => Err(format!("{change:?} came back as {again:?}")),
    }
}

/// A call as JSON, the first byte says which: what is understood is written so that
/// it is understood in the same way.
pub fn json(bytes: &[u8]) -> Verdict {
    let Some((call, text)) = bytes.split_first() else {
        return Ok("nothing".to_owned());
    };
    match http::there_and_back(usize::from(*call), text) {
        Ok((first, again)) if first == again => Ok(format!("{call} {}", first.len().min(64))),
        Ok((first, again)) => Err(format!("{first} came back as {again}")),
        Err(error) if error.starts_with("written as") => Err(error),
        // Without what it quotes.
        Err(error) => Ok(error
            .chars()
            .take_while(|c| c.is_alphabetic() || *c == ' ')
            .collect()),
    }
}

/// etcd's database file, as restoring a backup reads it.
pub fn etcd_file(bytes: &[u8]) -> Verdict {
    let file = match mizzen_bolt::File::open(bytes) {
        Ok(file) => file,
        Err(error) => return Ok(error.to_string().chars().take(20).collect()),
    };
    let mut into = Restore::new(Arc::new(MemEngine::default()));
    Ok(match etcd_file::read(&file, &mut into) {
        Ok(_) => format!("read {}", into.revision().is_ok()),
        Err(error) => error
            .to_string()
            .chars()
            .filter(|c| c.is_alphabetic())
            .take(40)
            .collect(),
    })
}
