//! Whether the URLs this member advertises to its peers are those the initial
//! cluster lists for it. Names are resolved only if the texts differ.

use std::{
    net::ToSocketAddrs,
    thread,
    time::{Duration, Instant},
};

use super::url::{self, Url};

/// How long names are looked up before the member gives up (etcd's value):
/// at boot the name service may not know the member yet.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);
const RESOLVE_RETRY: Duration = Duration::from_secs(1);

/// Looks a `host:port` up until it is found or time is up.
pub(super) fn resolve(address: &str) -> Result<String, String> {
    let deadline = Instant::now() + RESOLVE_DEADLINE;
    loop {
        let reason = match address.to_socket_addrs() {
            Ok(mut found) => match found.next() {
                Some(found) => return Ok(found.to_string()),
                None => "no address".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() + RESOLVE_RETRY > deadline {
            return Err(format!("failed to resolve {address:?} ({reason})"));
        }
        thread::sleep(RESOLVE_RETRY);
    }
}

/// Fails in etcd's words if the two lists are not the same addresses.
pub(super) fn advertised_match(
    name: &str,
    advertised: &[Url],
    listed: &[Url],
    resolve: impl Fn(&str) -> Result<String, String>,
) -> Result<(), String> {
    let reason = match same(advertised, listed, resolve) {
        Ok(()) => return Ok(()),
        Err(reason) => reason,
    };
    let missing = |from: &[Url], in_: &[Url]| -> Vec<String> {
        from.iter()
            .filter(|url| !in_.contains(url))
            .map(|url| url.to_string())
            .collect()
    };
    let own = advertised.to_vec();
    let own = url::print_cluster([(&name.to_owned(), &own)]);
    let not_advertised: Vec<String> = missing(listed, advertised)
        .iter()
        .map(|url| format!("{name}={url}"))
        .collect();
    if !not_advertised.is_empty() {
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({reason})",
            not_advertised.join(","),
            url::join(advertised)
        ));
    }
    let not_listed = missing(advertised, listed);
    if !not_listed.is_empty() {
        return Err(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={own}",
            not_listed.join(",")
        ));
    }
    Err(format!(
        "failed to resolve {} to match --initial-cluster={own} ({reason})",
        url::join(advertised)
    ))
}

fn same(
    a: &[Url],
    b: &[Url],
    resolve: impl Fn(&str) -> Result<String, String>,
) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
    }
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    url::sort(&mut a);
    url::sort(&mut b);
    if a == b {
        return Ok(());
    }
    let resolved = |urls: &[Url]| -> Result<Vec<String>, String> {
        let mut urls = urls
            .iter()
            .map(|url| resolved(url, &resolve))
            .collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        Ok(urls)
    };
    let (a, b) = (resolved(&a)?, resolved(&b)?);
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => Err(format!("resolved urls: {a:?} != {b:?}")),
    }
}

fn resolved(url: &Url, resolve: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    if url.is_unix() || url.host() == "localhost" {
        return Ok(url.to_string());
    }
    let scheme = if url.is_secure() { "https" } else { "http" };
    Ok(format!("{scheme}://{}", resolve(url.host_and_port())?))
}

/// A list as Go prints it.
fn quoted(urls: &[Url]) -> String {
    let urls: Vec<String> = urls
        .iter()
        .map(|url| format!("{:?}", url.as_str()))
        .collect();
    format!("[{}]", urls.join(" "))
}
