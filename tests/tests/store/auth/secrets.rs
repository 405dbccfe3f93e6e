//! Passwords, tokens and keys are nowhere: not in data directories, logs, or the
//! copy of the rows that a new member gets.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::PutRequest;
use mizzen_tests::auth::call::{Asked, Call};
use mizzen_tests::cluster::{self, Cluster, Options};

const PASSWORDS: [&str; 3] = [
    "marker-password-of-root-0451",
    "marker-password-of-u-8842",
    "marker-password-of-u-later-9917",
];
/// What must be found, or the search finds nothing.
const VALUE: &str = "marker-value-that-is-stored-3301";

/// Files below a folder that hold one of the texts, and how many were read.
fn search(folder: &Path, texts: &[String], found: &mut Vec<String>) -> Result<usize> {
    if folder.is_file() {
        let bytes = fs::read(folder)?;
        for text in texts {
            if bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
            {
                found.push(format!("{text} is in {}", folder.display()));
            }
        }
        return Ok(1);
    }
    let mut read = 0;
    for entry in fs::read_dir(folder)? {
        read += search(&entry?.path(), texts, found)?;
    }
    Ok(read)
}

async fn made(asked: &mut Asked, user: Option<&str>, call: Call) -> Result<()> {
    let made = asked.make(user, &call).await?;
    made.map(drop)
        .map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))
}

/// Logs in and works on every member, rightly and wrongly.
async fn work(cluster: &Cluster, tokens: &mut Vec<String>) -> Result<()> {
    let text = str::to_owned;
    let mut first = Asked::new(cluster.channel(0)?);
    for call in [
        Call::UserAdd(text("root"), Some(text(PASSWORDS[0]))),
        Call::UserAdd(text("u"), Some(text(PASSWORDS[1]))),
        Call::RoleAdd(text("root")),
        Call::GrantRole(text("root"), text("root")),
        Call::Enable,
    ] {
        made(&mut first, None, call).await?;
    }
    for index in 0..cluster.len() {
        let mut asked = Asked::new(cluster.channel(index)?);
        made(
            &mut asked,
            None,
            Call::Login(text("root"), text(PASSWORDS[0])),
        )
        .await?;
        let put = PutRequest {
            key: format!("k{index}").into(),
            value: Bytes::from_static(VALUE.as_bytes()),
            ..Default::default()
        };
        made(&mut asked, Some("root"), Call::Put(put)).await?;
        // Refused, and perhaps logged.
        for call in [
            Call::Login(text("root"), text(PASSWORDS[1])),
            Call::Login(text(PASSWORDS[2]), text(PASSWORDS[2])),
            Call::UserAdd(text("u"), Some(text(PASSWORDS[2]))),
            Call::ChangePassword(text("nobody"), text(PASSWORDS[2])),
        ] {
            ensure!(asked.make(Some("root"), &call).await?.is_err(), "{call:?}");
        }
        let change = Call::ChangePassword(text("u"), text(PASSWORDS[2]));
        made(&mut asked, Some("root"), change).await?;
        made(&mut asked, None, Call::Login(text("u"), text(PASSWORDS[2]))).await?;
        tokens.extend(asked.tokens().map(str::to_owned));
    }
    Ok(())
}

async fn nothing_is_found(flags: &[String], secret: Option<&str>) -> Result<()> {
    let mut options = Options::new(cluster::mizzen()?).flag("--log-level=debug");
    for flag in flags {
        options = options.flag(flag.clone());
    }
    Cluster::run(options, async |cluster| {
        let mut tokens = Vec::new();
        work(cluster, &mut tokens).await?;
        ensure!(tokens.len() == 2 * cluster.len(), "{} tokens", tokens.len());
        let mut texts: Vec<String> = PASSWORDS.map(str::to_owned).to_vec();
        texts.extend(secret.map(str::to_owned));
        for token in tokens {
            // What follows is an entry's number, or a signature.
            let (text, _) = token.rsplit_once('.').context("a dot")?;
            ensure!(text.len() > 15, "a token is long");
            texts.push(text.to_owned());
        }
        for index in 0..cluster.len() {
            // Whatever is in memory goes to the disk.
            ensure!(cluster.terminate(index).await?.success());
            let (mut found, mut control) = (Vec::new(), Vec::new());
            let mut read = 0;
            for place in [cluster.data_dir(index), cluster.log_path(index)] {
                read += search(place, &texts, &mut found)?;
                search(place, &[VALUE.to_owned()], &mut control)?;
            }
            ensure!(found.is_empty(), "{}", found.join("\n"));
            ensure!(
                read > 5 && !control.is_empty(),
                "{read} files, {control:?}: the search finds nothing"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn passwords_and_tokens_are_nowhere() -> Result<()> {
    nothing_is_found(&["--bcrypt-cost=4".to_owned()], None).await
}

#[tokio::test]
async fn keys_and_signed_tokens_are_nowhere() -> Result<()> {
    let secret = "marker-secret-of-the-tokens-7719";
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("secret");
    fs::write(&path, secret)?;
    let tokens = format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={}",
        path.display()
    );
    nothing_is_found(&[tokens, "--bcrypt-cost=4".to_owned()], Some(secret)).await
}
