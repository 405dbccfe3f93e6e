//! One kubectl, its commands and what they printed. Knows no resource.
//!
//! A command that fails is noted, with the line that repeats it, and the group
//! goes on: all that fail are told in the end.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use mizzen_tests::apiserver::ApiServer;
use serde_json::Value;

pub struct Kubectl<'a> {
    pub program: PathBuf,
    pub servers: &'a [ApiServer],
    pub namespace: String,
    /// Commands that were run.
    ran: Cell<usize>,
    /// The last of them, as one would type it.
    last: RefCell<String>,
    failures: RefCell<Vec<String>>,
}

pub struct Printed {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl<'a> Kubectl<'a> {
    pub fn new(program: PathBuf, servers: &'a [ApiServer], namespace: String) -> Self {
        Self {
            program,
            servers,
            namespace,
            ran: Cell::default(),
            last: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Runs a command through the servers in turn: what one wrote, the other
    /// shows.
    pub fn run(&self, arguments: &[&str], input: &str) -> Result<Printed> {
        let turn = self.ran.get();
        self.ran.set(turn + 1);
        let server = &self.servers[turn % self.servers.len()];
        *self.last.borrow_mut() = format!(
            "KUBECONFIG={} {} --namespace {} {}",
            server.kubeconfig().display(),
            self.program.display(),
            self.namespace,
            arguments.join(" ")
        );
        let mut child = Command::new(&self.program)
            .env("KUBECONFIG", server.kubeconfig())
            .env("KUBECACHEDIR", server.directory().join("cache"))
            // `edit` calls it with the file as its last argument.
            .env("KUBE_EDITOR", "sed -i s/redis:2/redis:3/")
            .arg("--namespace")
            .arg(&self.namespace)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok(Printed {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Notes that the last command was wrong, unless this holds.
    pub fn check(&self, holds: bool, what: &str) {
        if !holds {
            let line = self.last.borrow();
            self.failures.borrow_mut().push(format!("{line}\n  {what}"));
        }
    }

    /// What was wrong with the group: its commands, its own end, and how many it
    /// ran if not `expected`.
    pub fn judge(self, expected: usize, ended: Result<()>) -> Vec<String> {
        let mut failures = self.failures.into_inner();
        if let Err(error) = ended {
            failures.push(format!("{}\n  then {error:#}", self.last.into_inner()));
        } else if self.ran.get() != expected {
            let (program, ran) = (self.program.display(), self.ran.get());
            failures.push(format!("{program}: {ran} commands, not {expected}"));
        }
        failures
    }

    /// The output of a command that must succeed, with this input.
    pub fn fed(&self, arguments: &str, input: &str) -> Result<String> {
        let words: Vec<&str> = arguments.split(' ').collect();
        let printed = self.run(&words, input)?;
        self.succeeded(&printed);
        Ok(printed.stdout)
    }

    fn succeeded(&self, printed: &Printed) {
        self.check(
            printed.success,
            &format!("failed: {}{}", printed.stdout, printed.stderr),
        );
    }

    /// A command whose words have no spaces must succeed and print all of these.
    pub fn prints(&self, arguments: &str, expected: &[&str]) -> Result<String> {
        self.words(&arguments.split(' ').collect::<Vec<_>>(), expected)
    }

    pub fn words(&self, arguments: &[&str], expected: &[&str]) -> Result<String> {
        let printed = self.run(arguments, "")?;
        self.succeeded(&printed);
        if printed.success {
            for text in expected {
                self.check(
                    printed.stdout.contains(text),
                    &format!("printed no {text:?}: {}", printed.stdout),
                );
            }
        }
        Ok(printed.stdout)
    }

    /// A command must succeed and print this and nothing else.
    pub fn prints_only(&self, arguments: &str, input: &str, expected: &str) -> Result<()> {
        let printed = self.fed(arguments, input)?;
        self.check(
            printed == expected,
            &format!("printed {printed:?}, not {expected:?}"),
        );
        Ok(())
    }

    /// A command must fail and say all of these.
    pub fn fails(&self, arguments: &str, input: &str, expected: &[&str]) -> Result<()> {
        let printed = self.run(&arguments.split(' ').collect::<Vec<_>>(), input)?;
        self.check(
            printed.code == Some(1),
            &format!("ended with {:?}: {}", printed.code, printed.stdout),
        );
        for text in expected {
            self.check(
                printed.stderr.contains(text),
                &format!("did not say {text:?}: {}", printed.stderr),
            );
        }
        Ok(())
    }

    /// `diff` of a file with what is stored: the lines it must show, none if
    /// there is no difference.
    pub fn differs(&self, file: &str, expected: &[&str]) -> Result<()> {
        let printed = self.run(&["diff", "-f", "-"], file)?;
        let code = i32::from(!expected.is_empty());
        let shown = expected.iter().all(|line| printed.stdout.contains(line));
        let none = !expected.is_empty() || printed.stdout.is_empty();
        self.check(
            printed.code == Some(code) && shown && none,
            &format!(
                "ended with {:?}, expected {code} and {expected:?}: {}{}",
                printed.code, printed.stdout, printed.stderr
            ),
        );
        Ok(())
    }

    pub fn json(&self, arguments: &str) -> Result<Value> {
        let text = self.prints(&format!("{arguments} -o json"), &[])?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }
}
