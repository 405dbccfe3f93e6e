//! All commands about users and roles, on three replicas with mutual TLS, beside
//! the same commands against etcd: as users with passwords, as the common name of
//! a certificate, with simple and with signed tokens.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};

/// Arguments, and what is typed.
type Line = (&'static str, &'static str);

/// `@` stands for root with its password. What begins with another flag is
/// somebody else; without any the certificate says who asks: `client`.
const SCRIPT: &[Line] = &[
    ("auth enable", ""),
    ("user add root:p", ""),
    ("user add u:p", ""),
    ("user add u:p", ""),
    ("user add v --interactive=false", "q\n"),
    ("user add client --no-password", ""),
    ("role add r", ""),
    ("role add r", ""),
    ("role add none", ""),
    ("role grant-permission r readwrite k/ --prefix", ""),
    ("role grant-permission r read x", ""),
    ("role grant-permission r write from --from-key", ""),
    ("role grant-permission missing read x", ""),
    ("user grant-role u r", ""),
    ("user grant-role missing r", ""),
    ("user grant-role u missing", ""),
    ("auth enable", ""),
    ("put k/a 1", ""),
    ("get k/a", ""),
    ("user list", ""),
    ("--user=u:p put k/a 1", ""),
    ("--user=u:p put k/b 2", ""),
    ("--user=u:p get k/ --prefix", ""),
    ("--user=u:p get a", ""),
    ("--user=u:p put x 1", ""),
    ("--user=u:p get x", ""),
    ("--user=u:p get k/ --from-key", ""),
    ("--user=u:p put from/x 1", ""),
    ("--user=u:p put from/x 1 --prev-kv", ""),
    ("--user=u:p del k/b --prev-kv", ""),
    ("--user=u:wrong get k/a", ""),
    ("--user=missing:p get k/a", ""),
    ("--user=client:p get k/a", ""),
    ("--user=v:q get k/a", ""),
    ("--user=u:p user list", ""),
    ("--user=u:p user get u", ""),
    ("--user=u:p user get v", ""),
    ("--user=u:p role get r", ""),
    ("--user=u:p role get none", ""),
    ("--user=u:p compaction 2", ""),
    ("--user=u:p member remove 1", ""),
    (
        "--user=u:p txn",
        "value(\"k/a\") = \"1\"\n\nput k/a 2\n\nget a\n\n",
    ),
    (
        "--user=u:p txn",
        "value(\"k/a\") = \"1\"\n\nput k/a 2\n\nget k/a\n\n",
    ),
    ("@ user grant-role client r", ""),
    ("get k/a", ""),
    ("put other 1", ""),
    ("@ user list", ""),
    ("@ user get u", ""),
    ("@ user get u --detail", ""),
    ("@ role list", ""),
    ("@ role get r", ""),
    ("@ user passwd u --interactive=false", "new\n"),
    ("--user=u:p get k/a", ""),
    ("--user=u:new get k/a", ""),
    ("@ role revoke-permission r x", ""),
    ("@ role revoke-permission r x", ""),
    ("--user=u:new get x", ""),
    ("@ user revoke-role u r", ""),
    ("@ user revoke-role u r", ""),
    ("--user=u:new get k/a", ""),
    ("@ user revoke-role root root", ""),
    ("@ user delete root", ""),
    ("@ role delete root", ""),
    ("@ user delete u", ""),
    ("--user=u:new get k/a", ""),
    ("@ role delete r", ""),
    ("get k/a", ""),
    ("@ role get r", ""),
    ("@ auth status", ""),
    ("auth status", ""),
    ("--user=v:q auth disable", ""),
    ("@ auth disable", ""),
    ("get k/a", ""),
    ("auth disable", ""),
    ("auth status", ""),
];

/// The words of a line, and before them where to ask and what to show.
pub fn arguments(cluster: &Cluster, index: usize, text: &str) -> Result<Vec<String>> {
    let pki = cluster.pki().context("it has certificates")?;
    let mut all = vec![
        format!("--endpoints=https://{}", cluster.endpoint(index)),
        format!("--cacert={}", pki.path("ca.crt").display()),
        format!("--cert={}", pki.path("client.crt").display()),
        format!("--key={}", pki.path("client.key").display()),
    ];
    let words = text.split(' ');
    all.extend(words.map(|word| if word == "@" { "--user=root:p" } else { word }.to_owned()));
    Ok(all)
}

/// What a line prints, and whether it succeeds.
pub fn printed(
    program: &Path,
    cluster: &Cluster,
    index: usize,
    (text, typed): (&str, &str),
) -> Result<String> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(arguments(cluster, index, text)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    // It may have been refused before it reads.
    let _ = stdin.write_all(typed.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let error = String::from_utf8(output.stderr)?;
    Ok(format!(
        "{} {}{}",
        output.status.success(),
        String::from_utf8(output.stdout)?,
        // Among them are lines of the client's log, with times and addresses.
        error
            .lines()
            .rfind(|line| !line.starts_with('{'))
            .unwrap_or_default()
    ))
}

async fn beside_etcd(tokens: &str) -> Result<()> {
    for (version, program) in super::etcdctls()? {
        let options = |binary| {
            Options::new(binary)
                .tls()
                .flag(tokens)
                .flag("--bcrypt-cost=4")
        };
        let theirs = Cluster::start(options(cluster::reference()?).members(1)).await?;
        Cluster::run(options(cluster::mizzen()?), async |ours| {
            let mut failed = 0;
            for (number, line) in SCRIPT.iter().enumerate() {
                let index = number % ours.len();
                let ours = printed(&program, ours, index, *line)?;
                let theirs = printed(&program, &theirs, 0, *line)?;
                ensure!(
                    ours == theirs,
                    "etcdctl {version} {:?} on member {index}:\nours   {ours}\ntheirs {theirs}",
                    line.0
                );
                failed += usize::from(ours.starts_with("false"));
            }
            let total = SCRIPT.len();
            println!("etcdctl {version}, {tokens}: {total} commands equal, {failed} refused");
            ensure!(failed > 25 && total - failed > 25, "too few of a kind");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn users_with_simple_tokens() -> Result<()> {
    beside_etcd("--auth-token=simple").await
}

#[tokio::test]
async fn users_with_signed_tokens() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "a secret of these tests, 32 bytes")?;
    let secret = secret.display();
    beside_etcd(&format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={secret}"
    ))
    .await
}
