//! Every command that etcdctl 3.7 has, on three replicas with mutual TLS and users,
//! beside the same commands against etcd's three. Which commands there are is asked of
//! etcdctl itself: one without a line here fails the test.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::setting;
use mizzen_tests::skip::{self, Why};
use serde_json::Value;

use super::users::{arguments, printed};

/// How what is printed here compares with what is printed beside etcd.
#[derive(Clone, Copy, Debug)]
enum Like {
    /// Equal.
    Same,
    /// Equal but for ids, addresses and numbers.
    Shape,
    /// As `Shape`, but for which of the members leads.
    Leader,
    /// Different on purpose: this is what is printed here.
    Ours(&'static str),
}
use Like::{Leader, Ours, Same, Shape};

/// Arguments, what is typed, and how it compares. `@` is root with its password;
/// `LEASE` and `MEMBER` stand for the newest ones, `FILE` for a path.
const SCRIPT: &[(&str, &str, Like)] = &[
    ("user add root:p", "", Same),
    ("auth enable", "", Same),
    ("@ auth status", "", Same),
    ("@ put k/a 1", "", Same),
    ("@ put k/a 2 --prev-kv", "", Same),
    ("@ put k/b 3", "", Same),
    ("@ get k/ --prefix", "", Same),
    (
        "@ get k/ --prefix --count-only --write-out=fields",
        "",
        Shape,
    ),
    ("@ get k/a --rev=2", "", Same),
    ("get k/a", "", Same),
    (
        "@ txn",
        "value(\"k/a\") = \"2\"\n\nput k/c 4\nget k/b\n\nget k/a\n\n",
        Same,
    ),
    ("@ del k/c --prev-kv", "", Same),
    ("@ compaction 4", "", Same),
    ("@ compaction 4", "", Same),
    ("@ get k/a --rev=3", "", Same),
    ("@ lease grant 600", "", Shape),
    ("@ put leased v --lease=LEASE", "", Same),
    ("@ lease list", "", Shape),
    ("@ lease timetolive LEASE --keys", "", Shape),
    ("@ lease keep-alive --once LEASE", "", Shape),
    ("@ lease revoke LEASE", "", Shape),
    ("@ lease revoke LEASE", "", Shape),
    ("@ get leased", "", Same),
    ("@ lock name echo held", "", Same),
    ("@ role add r", "", Same),
    ("@ role grant-permission r readwrite k/ --prefix", "", Same),
    ("@ role get r", "", Same),
    ("@ role list", "", Same),
    ("@ user add u:p", "", Same),
    ("@ user grant-role u r", "", Same),
    ("@ user get u --detail", "", Same),
    ("@ user list", "", Same),
    ("--user=u:p get k/a", "", Same),
    ("--user=u:p defrag", "", Shape),
    ("--user=u:p snapshot save FILE", "", Same),
    ("--user=u:p alarm disarm", "", Same),
    ("--user=u:p downgrade validate 3.6", "", Same),
    ("@ user passwd u --interactive=false", "q\n", Same),
    ("--user=u:q get k/a", "", Same),
    ("@ user revoke-role u r", "", Same),
    ("--user=u:q get k/a", "", Same),
    ("@ role revoke-permission r k/ --prefix", "", Same),
    ("@ role delete r", "", Same),
    ("@ user delete u", "", Same),
    ("@ alarm list", "", Same),
    ("@ alarm disarm", "", Same),
    ("@ defrag", "", Shape),
    ("@ downgrade validate 3.6", "", Same),
    ("@ downgrade validate 3.6.1", "", Same),
    ("@ downgrade validate 3.5", "", Same),
    ("@ downgrade validate three", "", Same),
    ("@ downgrade enable 3.5", "", Same),
    (
        "@ downgrade enable 3.6",
        "",
        Ours(
            "false Error: rpc error: code = FailedPrecondition desc = mizzen: data cannot become etcd 3.6's in place; save a snapshot and restore it with that version's etcdutl",
        ),
    ),
    ("@ downgrade cancel", "", Same),
    ("@ endpoint status", "", Leader),
    ("@ endpoint health", "", Shape),
    ("@ endpoint hashkv", "", Shape),
    ("@ member list", "", Shape),
    ("@ snapshot save FILE", "", Same),
    (
        "@ member add new --learner --peer-urls=http://127.0.0.1:9",
        "",
        Shape,
    ),
    (
        "@ member update MEMBER --peer-urls=http://127.0.0.1:10",
        "",
        Shape,
    ),
    ("@ member promote MEMBER", "", Same),
    ("@ member remove MEMBER", "", Shape),
    ("@ member remove MEMBER", "", Shape),
    ("version", "", Same),
    ("options", "", Same),
    ("help", "", Same),
    ("completion bash", "", Same),
    ("completion zsh", "", Same),
    ("completion fish", "", Same),
    ("completion powershell", "", Same),
    ("@ auth disable", "", Same),
    ("auth status", "", Same),
];

/// Commands that go on until they are stopped, or take a minute: not in the script.
const APART: [&str; 6] = [
    "watch",
    "elect",
    "make-mirror",
    "move-leader",
    "check perf",
    "check datascale",
];

/// All commands of an etcdctl that have none under them.
fn commands(program: &Path) -> Result<BTreeSet<String>> {
    let under = |words: &[&str]| -> Result<Vec<String>> {
        let output = Command::new(program)
            .arg("__complete")
            .args(words)
            .arg("")
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let names = text.lines().filter(|line| !line.starts_with(':'));
        let names = names.filter_map(|line| line.split('\t').next());
        Ok(names.map(str::to_owned).collect())
    };
    let mut all = BTreeSet::new();
    for command in under(&[])? {
        let below = match command.as_str() {
            "help" => Vec::new(),
            name => under(&[name])?,
        };
        match below.is_empty() {
            true => drop(all.insert(command)),
            false => all.extend(below.into_iter().map(|name| format!("{command} {name}"))),
        }
    }
    ensure!(all.len() > 40, "etcdctl names only {all:?}");
    Ok(all)
}

/// With ids, addresses and numbers that differ from cluster to cluster left out; members
/// come by their ids.
fn shape(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '%' | 'µ');
    let mut shape = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let end = end.max(first.len_utf8());
        let (word, after) = rest.split_at(end);
        let is_id = word.len() >= 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        match is_id || word.chars().any(|c| c.is_ascii_digit()) {
            true => shape.push('#'),
            false => shape.push_str(word),
        }
        rest = after;
    }
    let lines = shape.split('\n').map(|line| {
        let Some(members) = line.strip_prefix("ETCD_INITIAL_CLUSTER=") else {
            return line.to_owned();
        };
        let mut members: Vec<&str> = members.trim_matches('"').split(',').collect();
        members.sort_unstable();
        format!("ETCD_INITIAL_CLUSTER={}", members.join(","))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The second word, an id, of what was printed after `true `.
fn second_word(printed: &str) -> Result<String> {
    let word = printed.split_whitespace().nth(2);
    Ok(word
        .with_context(|| format!("an id in {printed:?}"))?
        .to_owned())
}

/// A cluster and what the script has got from it.
struct Side<'a> {
    program: &'a Path,
    cluster: &'a Cluster,
    lease: String,
    member: String,
    file: String,
}

impl<'a> Side<'a> {
    fn new(program: &'a Path, cluster: &'a Cluster, file: &str) -> Self {
        Self {
            program,
            cluster,
            // What nothing prints.
            lease: "\0lease".to_owned(),
            member: "\0member".to_owned(),
            file: file.to_owned(),
        }
    }

    fn run(&mut self, number: usize, (text, typed): (&str, &str)) -> Result<String> {
        let text = text
            .replace("LEASE", &self.lease)
            .replace("MEMBER", &self.member)
            .replace("FILE", &self.file);
        let index = number % self.cluster.len();
        let again = || printed(self.program, self.cluster, index, (&text, typed));
        let mut out = again()?;
        // Members have to have known each other for a while.
        let begun = Instant::now();
        while out.contains("unhealthy cluster") && begun.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(100));
            out = again()?;
        }
        if text.contains("lease grant") {
            self.lease = second_word(&out)?;
        }
        if text.contains("member add") {
            self.member = second_word(&out)?;
        }
        Ok(out
            .replace(&self.lease, "LEASE")
            .replace(&self.member, "MEMBER"))
    }

    /// The first lines of a command that goes on, which is then stopped.
    fn lines(&self, text: &str, count: usize) -> Result<Vec<String>> {
        let mut child = Command::new(self.program)
            .args(arguments(self.cluster, 0, text)?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout")?;
        let lines = BufReader::new(stdout).lines().take(count);
        let lines = lines.collect::<Result<Vec<_>, _>>();
        child.kill()?;
        child.wait()?;
        Ok(lines?)
    }

    fn json(&self, text: &str) -> Result<Value> {
        let out = printed(self.program, self.cluster, 0, (text, ""))?;
        let json = out.strip_prefix("true ").with_context(|| out.clone())?;
        Ok(serde_json::from_str(json.trim())?)
    }

    fn watch_and_elect(&self) -> Result<()> {
        let events = self.lines("@ watch k/ --prefix --rev=6", 3)?;
        ensure!(events == ["DELETE", "k/c", ""], "watch printed {events:?}");
        let elected = self.lines("@ elect name me", 2)?;
        ensure!(
            elected[0].starts_with("name/") && elected[1] == "me",
            "elect printed {elected:?}"
        );
        Ok(())
    }

    /// Copies `k/` to `copy/` of the same cluster.
    fn mirror(&self) -> Result<()> {
        let pki = self.cluster.pki().context("it has certificates")?;
        let to = self.cluster.endpoint(1);
        let text = format!(
            "@ make-mirror --prefix=k/ --dest-prefix=copy/ --dest-user=root:p --dest-cacert={} --dest-cert={} --dest-key={} https://{to}",
            pki.path("ca.crt").display(),
            pki.path("client.crt").display(),
            pki.path("client.key").display(),
        );
        let mut child = Command::new(self.program)
            .args(arguments(self.cluster, 0, &text)?)
            .stdout(Stdio::null())
            .spawn()?;
        let begun = Instant::now();
        let copied = loop {
            let out = printed(self.program, self.cluster, 2, ("@ get copy/a", ""))?;
            if out == "true copy/a\n2\n" || begun.elapsed() > Duration::from_secs(30) {
                break out;
            }
        };
        child.kill()?;
        child.wait()?;
        ensure!(
            copied == "true copy/a\n2\n",
            "make-mirror copied {copied:?}"
        );
        Ok(())
    }

    fn move_leader(&self) -> Result<()> {
        let status = self.json("@ endpoint status --cluster -w json")?;
        let all = status.as_array().context("members")?;
        let ids = all
            .iter()
            .map(|one| one["Status"]["header"]["member_id"].as_u64());
        let leader = all[0]["Status"]["leader"].as_u64();
        let position = ids
            .clone()
            .position(|id| id == leader)
            .context("a leader")?;
        let other = ids.flatten().find(|id| Some(*id) != leader);
        let address = all[position]["Endpoint"].as_str().context("an address")?;
        let index = self
            .cluster
            .endpoints()
            .iter()
            .position(|one| address.ends_with(one));
        let text = format!("@ move-leader {:x}", other.context("another one")?);
        let line = (text.as_str(), "");
        let out = printed(
            self.program,
            self.cluster,
            index.context("an endpoint")?,
            line,
        )?;
        ensure!(
            out.starts_with("true Leadership transferred from "),
            "move-leader printed {out:?}"
        );
        Ok(())
    }

    /// Each takes a minute, or writes ten thousand keys.
    fn check(&self) -> Result<()> {
        for text in ["@ check datascale --load=s", "@ check perf --load=s"] {
            let out = printed(self.program, self.cluster, 0, (text, ""))?;
            ensure!(out.starts_with("true "), "{text} printed {out:?}");
        }
        Ok(())
    }
}

async fn every_command(program: &Path) -> Result<()> {
    let mut missing = commands(program)?;
    missing.retain(|command| {
        let begins = |text: &str| text == command || text.starts_with(&format!("{command} "));
        let here = SCRIPT
            .iter()
            .map(|(text, ..)| text.strip_prefix("@ ").unwrap_or(text));
        !here.chain(APART).any(begins)
    });
    ensure!(missing.is_empty(), "no line for {missing:?}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("backup.db").display().to_string();
    let options = |binary| Options::new(binary).tls().flag("--bcrypt-cost=4");
    let theirs = Cluster::start(options(cluster::reference()?)).await?;
    Cluster::run(options(cluster::mizzen()?), async |ours| {
        let (mut ours, mut theirs) = (
            Side::new(program, ours, &file),
            Side::new(program, &theirs, &file),
        );
        for (number, (text, typed, like)) in SCRIPT.iter().enumerate() {
            if *text == "@ auth disable" {
                ours.watch_and_elect()?;
                ours.mirror()?;
                ours.move_leader()?;
                match setting("MIZZEN_ETCDCTL_CHECK", 0) {
                    0 => println!(
                        "left out: etcdctl check, which takes minutes: MIZZEN_ETCDCTL_CHECK=1"
                    ),
                    _ => ours.check()?,
                }
            }
            let line = (*text, *typed);
            let ours = ours.run(number, line)?;
            let (ours, theirs) = match like {
                Same => (ours, theirs.run(number, line)?),
                Shape => (shape(&ours), shape(&theirs.run(number, line)?)),
                Leader => {
                    let any = |printed: String| shape(&printed).replace(", true,", ", false,");
                    (any(ours), any(theirs.run(number, line)?))
                }
                Ours(text) => (ours, (*text).to_owned()),
            };
            ensure!(
                ours == theirs,
                "{text:?} on member {}:\nours   {ours}\ntheirs {theirs}",
                number % 3
            );
        }
        println!("{} lines of etcdctl compared", SCRIPT.len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_command_of_etcdctl() -> Result<()> {
    let found = super::etcdctls()?;
    match found.iter().find(|(version, _)| *version == "3.7") {
        Some((_, program)) => every_command(program).await,
        None => Ok(skip::test(&Why::program("etcdctl 3.7"))?),
    }
}

#[test]
fn ids_and_addresses_have_no_shape() {
    for (text, expected) in [
        (
            "Member 8e9e05c52164694d added to cluster cdf81",
            "Member # added to cluster #",
        ),
        (
            "https://127.0.0.1:2379 is healthy: took = 1.2ms",
            "# is healthy: took = #",
        ),
        ("took = 912.5µs", "took = #"),
        ("a, b", "a, b"),
        ("ä", "ä"),
    ] {
        assert_eq!(shape(text), expected);
    }
}
