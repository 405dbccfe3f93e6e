//! Commands that live on a stream or hold something: watch, lease, lock, elect.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Etcdctl;

/// Bound of every wait for a line. Far above what any takes.
const DEADLINE: Duration = Duration::from_secs(60);
/// Lines that wait to be read.
const LINES: usize = 1_000;

/// An etcdctl that goes on until it is interrupted.
struct Running {
    child: Child,
    lines: Receiver<String>,
    command: String,
}

impl Running {
    fn start(etcdctl: &Etcdctl, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(&etcdctl.program)
            .arg(format!("--endpoints={}", etcdctl.endpoint))
            .args(arguments)
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout")?;
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            command: etcdctl.command(arguments),
        })
    }

    fn line(&self) -> Result<String> {
        let line = self.lines.recv_timeout(DEADLINE);
        line.with_context(|| format!("{}: no further line", self.command))
    }

    fn prints(&self, expected: &[&str]) -> Result<()> {
        for expected in expected {
            let line = self.line()?;
            let command = &self.command;
            ensure!(
                line == *expected,
                "{command} printed {line:?}, expected {expected:?}"
            );
        }
        Ok(())
    }

    /// As a user's Ctrl-C. Only for commands that give something back then:
    /// others ignore it when the tests run in the background.
    fn interrupt(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        Ok(self.child.wait()?)
    }

    /// What is printed until it ends by itself.
    fn rest(mut self) -> Result<Vec<String>> {
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            rest.push(line);
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.command);
        Ok(rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn watch(etcdctl: &Etcdctl) -> Result<()> {
    etcdctl.prints(&["put", "watched/a", "1"], "", "OK\n")?;
    let reply = etcdctl.json(&["get", "watched/a"])?;
    let revision = reply["header"]["revision"].as_i64().context("revision")?;
    let from = format!("--rev={revision}");
    let all = Running::start(
        etcdctl,
        &["watch", "watched/", "--prefix", "--prev-kv", &from],
    )?;
    all.prints(&["PUT", "watched/a", "1"])?;
    // Runs a command for every event.
    let one = Running::start(
        etcdctl,
        &[
            "watch",
            "watched/b",
            &from,
            "--",
            "sh",
            "-c",
            "echo ran $ETCD_WATCH_KEY",
        ],
    )?;
    etcdctl.prints(&["put", "watched/b", "2"], "", "OK\n")?;
    all.prints(&["PUT", "watched/b", "2"])?;
    one.prints(&["PUT", "watched/b", "2", "ran \"watched/b\""])?;
    etcdctl.prints(&["put", "watched/b", "3"], "", "OK\n")?;
    all.prints(&["PUT", "watched/b", "2", "watched/b", "3"])?;
    etcdctl.prints(&["del", "watched/", "--prefix"], "", "2\n")?;
    all.prints(&["DELETE", "watched/a", "1", "watched/a", ""])?;
    all.prints(&["DELETE", "watched/b", "3", "watched/b", ""])?;
    drop((all, one));

    let reply = etcdctl.json(&["get", "watched/a"])?;
    let revision = reply["header"]["revision"].as_i64().context("revision")?;
    etcdctl.output(&["compaction", &revision.to_string()], "")?;
    let late = etcdctl.run(&["watch", "watched/", "--prefix", &from], "")?;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    ensure!(
        !late.success && late.stderr.contains(compacted),
        "a watch of what is compacted printed {:?}",
        late.stderr
    );
    Ok(())
}

pub fn lease(etcdctl: &Etcdctl) -> Result<()> {
    let granted = etcdctl.output(&["lease", "grant", "1000"], "")?;
    let id = granted
        .strip_prefix("lease ")
        .and_then(|rest| rest.strip_suffix(" granted with TTL(1000s)\n"))
        .with_context(|| format!("lease grant printed {granted:?}"))?;
    let flag = format!("--lease={id}");
    etcdctl.prints(&["put", "leased", "v", &flag], "", "OK\n")?;
    let told = etcdctl.output(&["lease", "timetolive", id, "--keys"], "")?;
    let begin = format!("lease {id} granted with TTL(1000s), remaining(");
    ensure!(
        told.starts_with(&begin) && told.ends_with("s), attached keys([leased])\n"),
        "lease timetolive printed {told:?}"
    );
    let list = etcdctl.output(&["lease", "list"], "")?;
    ensure!(
        list.starts_with("found ") && list.lines().any(|line| line == id),
        "lease list printed {list:?}"
    );
    let kept = format!("lease {id} keepalived with TTL(1000)\n");
    etcdctl.prints(&["lease", "keep-alive", "--once", id], "", &kept)?;
    let keeping = Running::start(etcdctl, &["lease", "keep-alive", id])?;
    keeping.prints(&[kept.trim_end()])?;
    etcdctl.prints(
        &["lease", "revoke", id],
        "",
        &format!("lease {id} revoked\n"),
    )?;
    drop(keeping);
    etcdctl.prints(&["get", "leased"], "", "")?;
    etcdctl.prints(
        &["lease", "timetolive", id],
        "",
        &format!("lease {id} already expired\n"),
    )?;
    etcdctl.fails(
        &["lease", "revoke", id],
        "failed to revoke lease (etcdserver: requested lease not found)",
    )
}

pub fn lock(etcdctl: &Etcdctl) -> Result<()> {
    let command = ["lock", "locked", "--", "echo", "mine"];
    etcdctl.prints(&command, "", "mine\n")?;
    let held = Running::start(etcdctl, &["lock", "locked"])?;
    let key = held.line()?;
    etcdctl.prints(
        &["get", "locked/", "--prefix", "--keys-only"],
        "",
        &format!("{key}\n\n"),
    )?;
    let waiting = Running::start(etcdctl, &command)?;
    keys_under(etcdctl, "locked/", 2)?;
    held.interrupt()?;
    let rest = waiting.rest()?;
    ensure!(rest == ["mine"], "lock printed {rest:?}");
    etcdctl.prints(&["get", "locked/", "--prefix"], "", "")
}

pub fn elect(etcdctl: &Etcdctl) -> Result<()> {
    let first = Running::start(etcdctl, &["elect", "elected", "one"])?;
    let key = first.line()?;
    first.prints(&["one"])?;
    let observer = Running::start(etcdctl, &["elect", "-l", "elected"])?;
    observer.prints(&[&key, "one"])?;
    let second = Running::start(etcdctl, &["elect", "elected", "two"])?;
    keys_under(etcdctl, "elected/", 2)?;
    first.interrupt()?;
    let key = second.line()?;
    second.prints(&["two"])?;
    observer.prints(&[&key, "two"])?;
    observer.interrupt()?;
    second.interrupt()?;
    etcdctl.prints(&["get", "elected/", "--prefix"], "", "")
}

/// Returns when so many keys begin with a prefix.
fn keys_under(etcdctl: &Etcdctl, prefix: &str, count: usize) -> Result<()> {
    let started = Instant::now();
    loop {
        let keys = etcdctl.output(&["get", prefix, "--prefix", "--keys-only"], "")?;
        if keys.lines().filter(|line| !line.is_empty()).count() == count {
            return Ok(());
        }
        ensure!(
            started.elapsed() < DEADLINE,
            "never {count} keys under {prefix}: {keys}"
        );
    }
}
