//! A client of pages by plain HTTP/1.0: what a probe or a collector of metrics
//! does, without a library between the test and the bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bound of one request; a probe's own is of this order.
const LIMIT: Duration = Duration::from_secs(15);

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub code: u16,
    /// By name in lower case, without the date.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Page {
    fn parse(answer: &str) -> Result<Self> {
        let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(Self {
            code: status.context("a status")?.parse()?,
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .filter(|(name, _)| name != "date" && name != "connection")
                .collect(),
            body: body.to_owned(),
        })
    }

    /// With the lines of the body in order: some servers give them in none.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        let mut lines: Vec<&str> = self.body.split_inclusive('\n').collect();
        lines.sort_unstable();
        self.body = lines.concat();
        self
    }
}

/// Asks `host:port` for a page.
///
/// # Errors
/// Nobody listens there, or what comes is no HTTP.
pub async fn request(address: &str, method: &str, path: &str) -> Result<Page> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Page::parse(&answer)
    };
    timeout(LIMIT, answer)
        .await
        .with_context(|| format!("{method} {address}{path}: no answer"))?
}

/// Posts JSON, and reads the answer to its end, or until its body has so many
/// lines.
///
/// # Errors
/// As [`request`].
pub async fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    count: usize,
) -> Result<Page> {
    let length = body.len();
    let mut head =
        format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("{head}\r\n{body}").as_bytes())
            .await?;
        let (mut answer, mut part, mut lines) = (Vec::new(), vec![0; 1 << 20], 0);
        loop {
            let read = stream.read(&mut part).await?;
            lines += part[..read].iter().filter(|byte| **byte == b'\n').count();
            answer.extend_from_slice(&part[..read]);
            // The head has lines as well.
            if read == 0 || lines >= count {
                let page = Page::parse(std::str::from_utf8(&answer)?);
                if read == 0
                    || page
                        .as_ref()
                        .is_ok_and(|page| page.body.lines().count() >= count)
                {
                    return page;
                }
            }
        }
    };
    timeout(LIMIT, answer)
        .await
        .with_context(|| format!("POST {address}{path}: no answer"))?
}

/// [`request`] with GET.
///
/// # Errors
/// As [`request`].
pub async fn get(address: &str, path: &str) -> Result<Page> {
    request(address, "GET", path).await
}
