//! Users, rights and tokens as client libraries have them, on three replicas with
//! mutual TLS: etcd's own Go client and the Rust one, with simple and with signed
//! tokens.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Channel, Client, ConnectOptions, GetOptions, Permission, PermissionType};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::skip::{self, Why};
use tempfile::TempDir;

/// A cluster whose tokens are signed, if `signed`; the secret is in the folder.
fn options(signed: bool) -> Result<(Options, TempDir)> {
    let directory = tempfile::tempdir()?;
    let options = Options::new(cluster::mizzen()?).tls();
    if !signed {
        return Ok((options, directory));
    }
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "a secret of these tests, 32 bytes")?;
    let flag = format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={}",
        secret.display()
    );
    Ok((options.flag(flag), directory))
}

async fn go_client(signed: bool) -> Result<()> {
    if cluster::find_tool("go").is_empty() {
        return Ok(skip::test(&Why::program("go"))?);
    }
    let (options, _directory) = options(signed)?;
    Cluster::run(options, async |cluster| {
        let authority = cluster.pki().context("TLS")?.path("ca.crt");
        let output = Command::new("go")
            .args(["test", "-count=1", "./users"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go"))
            .env("MIZZEN_TEST_ENDPOINTS", cluster.endpoints().join(","))
            .env("MIZZEN_TEST_PKI", authority.parent().context("a folder")?)
            .output()
            .context("run go")?;
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "go test failed:\n{printed}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn go_client_with_simple_tokens() -> Result<()> {
    go_client(false).await
}

#[tokio::test]
async fn go_client_with_signed_tokens() -> Result<()> {
    go_client(true).await
}

async fn rust_client(signed: bool) -> Result<()> {
    let (options, _directory) = options(signed)?;
    Cluster::run(options, async |cluster| {
        let connect = async |member, user: Option<(&str, &str)>| {
            let mut options = ConnectOptions::new();
            if let Some((name, password)) = user {
                options = options.with_user(name, password);
            }
            let channel = Channel::Tonic(cluster.channel(member)?);
            Ok::<_, anyhow::Error>(Client::from_channel(channel, Some(options)).await?)
        };
        let mut plain = connect(0, None).await?;
        for (user, role) in [("root", "root"), ("u", "own")] {
            plain.user_add(user, "p", None).await?;
            if role != "root" {
                plain.role_add(role).await?;
            }
            plain.user_grant_role(user, role).await?;
        }
        let range = Permission::new(PermissionType::Readwrite, "k/").with_prefix();
        plain.role_grant_permission("own", range).await?;
        plain.auth_enable().await?;
        let nobody = connect(1, Some(("u", "wrong"))).await;
        refused(nobody, "authentication failed, invalid user ID or password")?;
        let mut root = connect(1, Some(("root", "p"))).await?;
        let mut user = connect(2, Some(("u", "p"))).await?;
        for round in 0..5 {
            user.put("k/a", round.to_string(), None).await?;
            let got = user
                .get("k/", Some(GetOptions::new().with_prefix()))
                .await?;
            ensure!(got.count() == 1, "{got:?}");
            refused(user.put("outside", "1", None).await, "permission denied")?;
            // This client does not take it for a reason to log in again that its
            // token is of an older revision afterwards.
            root.role_add(format!("role-{round}")).await?;
            root.refresh_token().await?;
            root.user_grant_role("u", format!("role-{round}")).await?;
            if signed {
                let old = user.put("k/a", "old", None).await;
                refused(old, "revision of auth store is old")?;
            }
            user.refresh_token().await?;
            root.refresh_token().await?;
        }
        // The certificate's name is that of no user.
        refused(plain.get("k/a", None).await, "permission denied")?;
        root.auth_disable().await?;
        plain.put("outside", "1", None).await?;
        Ok(())
    })
    .await
}

fn refused<T, E: ToString>(result: Result<T, E>, text: &str) -> Result<()> {
    let error = result.err().context("not refused")?.to_string();
    ensure!(error.contains(text), "{error:?}, and not {text:?}");
    Ok(())
}

#[tokio::test]
async fn rust_client_with_simple_tokens() -> Result<()> {
    rust_client(false).await
}

#[tokio::test]
async fn rust_client_with_signed_tokens() -> Result<()> {
    rust_client(true).await
}
