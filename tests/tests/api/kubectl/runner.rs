//! One kubectl, its commands and what they printed. Knows no resource.

use std::cell::Cell;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::apiserver::ApiServer;
use serde_json::Value;

pub struct Kubectl<'a> {
    pub program: PathBuf,
    pub servers: &'a [ApiServer],
    pub turn: Cell<usize>,
    pub namespace: String,
}

pub struct Printed {
    pub success: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Kubectl<'_> {
    pub fn run(&self, arguments: &[&str], input: &str) -> Result<(Printed, String)> {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        let server = &self.servers[turn % self.servers.len()];
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", server.kubeconfig())
            .env("KUBECACHEDIR", server.directory().join("cache"))
            // `edit` calls it with the file as its last argument.
            .env("KUBE_EDITOR", "sed -i s/redis:2/redis:3/")
            .arg("--namespace")
            .arg(&self.namespace)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let printed = Printed {
            success: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        };
        let line = format!(
            "KUBECONFIG={} {} --namespace {} {}",
            server.kubeconfig().display(),
            self.program.display(),
            self.namespace,
            arguments.join(" ")
        );
        Ok((printed, line))
    }

    /// The output of a command that must succeed, with this input.
    pub fn fed(&self, arguments: &str, input: &str) -> Result<String> {
        self.ok(&arguments.split(' ').collect::<Vec<_>>(), input)
    }

    pub fn ok(&self, arguments: &[&str], input: &str) -> Result<String> {
        let (printed, line) = self.run(arguments, input)?;
        ensure!(
            printed.success,
            "{line}: {}{}",
            printed.stdout,
            printed.stderr
        );
        Ok(printed.stdout)
    }

    /// A command whose words have no spaces must succeed and print all of these.
    pub fn prints(&self, arguments: &str, expected: &[&str]) -> Result<String> {
        self.words(&arguments.split(' ').collect::<Vec<_>>(), expected)
    }

    pub fn words(&self, arguments: &[&str], expected: &[&str]) -> Result<String> {
        let (printed, line) = self.run(arguments, "")?;
        ensure!(
            printed.success,
            "{line}: {}{}",
            printed.stdout,
            printed.stderr
        );
        for text in expected {
            ensure!(
                printed.stdout.contains(text),
                "{line} printed no {text:?}:\n{}",
                printed.stdout
            );
        }
        Ok(printed.stdout)
    }

    /// A command must fail and say all of these.
    pub fn fails(&self, arguments: &str, input: &str, expected: &[&str]) -> Result<()> {
        let (printed, line) = self.run(&arguments.split(' ').collect::<Vec<_>>(), input)?;
        ensure!(
            printed.code == Some(1),
            "{line} ended with {:?}: {}",
            printed.code,
            printed.stdout
        );
        for text in expected {
            ensure!(
                printed.stderr.contains(text),
                "{line} did not say {text:?}: {}",
                printed.stderr
            );
        }
        Ok(())
    }

    pub fn json(&self, arguments: &str) -> Result<Value> {
        let text = self.prints(&format!("{arguments} -o json"), &[])?;
        Ok(serde_json::from_str(&text)?)
    }
}
