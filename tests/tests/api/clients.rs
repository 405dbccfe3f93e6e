//! Clients in other languages, as they are released: a script of each of their calls,
//! on three members. `clients/` has the scripts and the versions; what they need is
//! fetched once, into the folder of the build.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::skip::{self, Why};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// What a client asks must go to the members, by their own authority.
const OF_THE_ENVIRONMENT: [&str; 9] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "grpc_proxy",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Carries out a step of fetching; why it cannot be done.
fn step(command: &mut Command) -> Result<(), Why> {
    let shown = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| Why::Program(format!("{shown}: {error}")))?;
    let last = said(&output);
    match output.status.success() {
        true => Ok(()),
        false => Err(Why::Program(format!(
            "{shown}: {}",
            last.lines().next_back().unwrap_or_default()
        ))),
    }
}

/// A Python with the libraries, made once for each list of versions.
fn python() -> Result<PathBuf, Why> {
    static PYTHON: OnceLock<Result<PathBuf, Why>> = OnceLock::new();
    PYTHON.get_or_init(make_python).clone()
}

fn make_python() -> Result<PathBuf, Why> {
    let list = folder().join("requirements.txt");
    let place = made("python", &list)?;
    let program = place.join("bin/python");
    if !place.join("done").exists() {
        step(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        step(
            Command::new(&program)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                ])
                .arg("--requirement")
                .arg(&list),
        )?;
        finish(&place)?;
    }
    Ok(program)
}

/// The folder with Node's modules.
fn node_modules() -> Result<PathBuf, Why> {
    let list = folder().join("package-lock.json");
    let place = made("node", &list)?;
    if !place.join("done").exists() {
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(folder().join(name), place.join(name)).map_err(refused)?;
        }
        step(
            Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--ignore-scripts"])
                .current_dir(&place),
        )?;
        finish(&place)?;
    }
    Ok(place.join("node_modules"))
}

/// Where Java finds the libraries.
fn java_libraries() -> Result<PathBuf, Why> {
    let list = folder().join("java/pom.xml");
    let place = made("java", &list)?;
    if !place.join("done").exists() {
        step(
            Command::new("mvn")
                .args(["--quiet", "--batch-mode", "--file"])
                .arg(&list)
                .arg("dependency:copy-dependencies")
                .arg(format!("-DoutputDirectory={}", place.display())),
        )?;
        finish(&place)?;
    }
    Ok(place.join("*"))
}

fn refused(error: std::io::Error) -> Why {
    Why::Refused(error.to_string())
}

/// A folder of its own for each content of `list`, so that a change of versions is
/// fetched anew.
fn made(name: &str, list: &Path) -> Result<PathBuf, Why> {
    let text = std::fs::read(list).map_err(refused)?;
    let number = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number:016x}"));
    std::fs::create_dir_all(&place).map_err(refused)?;
    Ok(place)
}

fn finish(place: &Path) -> Result<(), Why> {
    std::fs::write(place.join("done"), "").map_err(refused)
}

/// Runs a script with the certificates, if there are any, and all members.
async fn run(mut script: Command, cluster: &Cluster) -> Result<()> {
    if let Some(pki) = cluster.pki() {
        script.args(["ca.crt", "client.crt", "client.key"].map(|name| pki.path(name)));
    }
    script.args(cluster.endpoints());
    for name in OF_THE_ENVIRONMENT {
        script.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || script.output()).await?;
    let output = output.context("run the script")?;
    let printed = said(&output);
    ensure!(
        output.status.success() && printed.contains("every call on 3 members"),
        "{printed}\n{}",
        cluster.failure_report()
    );
    Ok(())
}

fn script(program: impl AsRef<std::ffi::OsStr>, name: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(folder().join(name));
    command
}

#[tokio::test]
async fn python_s_etcd3gw_by_json() -> Result<()> {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return Ok(skip::test(&why)?),
    };
    Cluster::run(Options::new(cluster::mizzen()?).tls(), async |cluster| {
        run(script(&python, "calls_etcd3gw.py"), cluster).await
    })
    .await
}

/// Not a client's library: a program that elects by etcd, by its own code.
#[tokio::test]
async fn patroni_by_json_with_users() -> Result<()> {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return Ok(skip::test(&why)?),
    };
    let options = Options::new(cluster::mizzen()?)
        .tls()
        .flag("--bcrypt-cost=4");
    Cluster::run(options, async |cluster| {
        // As in etcd, who has both a name by certificate and one in the request is
        // refused by the gateway.
        cluster.pki().context("certificates")?.name_no_client()?;
        run(script(&python, "calls_patroni.py"), cluster).await
    })
    .await
}

/// It knows no TLS.
#[tokio::test]
async fn python_s_aetcd() -> Result<()> {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return Ok(skip::test(&why)?),
    };
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        run(script(&python, "calls_aetcd.py"), cluster).await
    })
    .await
}

#[tokio::test]
async fn node_s_etcd3() -> Result<()> {
    let modules = match node_modules() {
        Ok(modules) => modules,
        Err(why) => return Ok(skip::test(&why)?),
    };
    Cluster::run(Options::new(cluster::mizzen()?).tls(), async |cluster| {
        let mut script = script("node", "calls_etcd3.js");
        script.env("NODE_PATH", &modules);
        run(script, cluster).await
    })
    .await
}

#[tokio::test]
async fn java_s_jetcd() -> Result<()> {
    let libraries = match java_libraries() {
        Ok(libraries) => libraries,
        Err(why) => return Ok(skip::test(&why)?),
    };
    let options = Options::new(cluster::mizzen()?)
        .tls()
        .flag("--bcrypt-cost=4");
    Cluster::run(options, async |cluster| {
        let mut java = Command::new("java");
        java.arg("-cp")
            .arg(&libraries)
            .arg(folder().join("CallsJetcd.java"));
        run(java, cluster).await
    })
    .await
}
