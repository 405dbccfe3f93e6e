//! Hostile connections: they send what a flood says, and look at how the server
//! ends them. One that was ended is opened again.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::floods::{Flood, Reading};

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// Until a connection notices that time is up.
const POLL: Duration = Duration::from_millis(100);
/// Between two attempts to connect: a server that is over says no at once.
const RETRY: Duration = Duration::from_millis(10);

/// RFC 9113, 7.
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

fn name(code: u32) -> &'static str {
    let code = usize::try_from(code).ok();
    code.and_then(|code| CODES.get(code)).unwrap_or(&"unknown")
}

/// How connections were ended, and streams.
#[derive(Default)]
pub struct Closes {
    connections: BTreeMap<&'static str, u64>,
    streams: BTreeMap<&'static str, u64>,
    sent: u64,
}

impl fmt::Display for Closes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connections.is_empty() {
            f.write_str("never")?;
        }
        for (code, count) in &self.connections {
            write!(f, "{code} x{count} ")?;
        }
        for (code, count) in &self.streams {
            write!(f, " streams {code} x{count}")?;
        }
        write!(f, " ({} MiB sent)", self.sent >> 20)
    }
}

/// Floods `endpoint` until the time is over.
pub fn run(endpoint: &str, flood: &Flood, until: Instant) -> Result<Closes> {
    let closes = Mutex::new(Closes::default());
    thread::scope(|scope| {
        for _ in 0..flood.connections {
            scope.spawn(|| {
                while Instant::now() < until {
                    if one(endpoint, flood, until, &closes).is_err() {
                        thread::sleep(RETRY);
                    }
                }
            });
        }
    });
    closes.into_inner().context("a connection broke")
}

/// One connection, until the server ends it or the time is over.
fn one(endpoint: &str, flood: &Flood, until: Instant, closes: &Mutex<Closes>) -> Result<()> {
    let mut socket = TcpStream::connect(endpoint)?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(POLL))?;
    socket.set_read_timeout(Some(POLL))?;
    let closed = AtomicBool::new(false);
    let reading = socket.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            if flood.reading == Reading::All {
                read(reading, until, &closed, closes);
            }
        });
        let mut turn = 0;
        let mut bytes = (flood.begin)();
        while Instant::now() < until && !closed.load(Ordering::SeqCst) {
            if let Err(end) = write(&mut socket, &mut bytes, until, &closed) {
                // Who reads learns more about why.
                if flood.reading == Reading::Nothing && end == ErrorKind::BrokenPipe {
                    count(closes, |closes| &mut closes.connections, "closed");
                }
                break;
            }
            if bytes.is_empty() {
                thread::sleep(flood.pause);
                bytes = (flood.next)(turn);
                turn += 1;
                if let Ok(mut closes) = closes.lock() {
                    closes.sent += bytes.len() as u64;
                }
            }
            if bytes.is_empty() {
                thread::sleep(POLL);
            }
        }
        // Lets the reader see why.
        let patience = Instant::now() + Duration::from_secs(1);
        while flood.reading == Reading::All
            && !closed.load(Ordering::SeqCst)
            && Instant::now() < patience.min(until)
        {
            thread::sleep(Duration::from_millis(1));
        }
        closed.store(true, Ordering::SeqCst);
        // It may be shut already.
        let _ = socket.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Writes as much as goes, for a moment.
fn write(
    socket: &mut TcpStream,
    bytes: &mut Vec<u8>,
    until: Instant,
    closed: &AtomicBool,
) -> Result<(), ErrorKind> {
    let mut done = 0;
    while done < bytes.len() && Instant::now() < until && !closed.load(Ordering::SeqCst) {
        match socket.write(&bytes[done..]) {
            Ok(0) => return Err(ErrorKind::BrokenPipe),
            Ok(count) => done += count,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(ErrorKind::BrokenPipe),
            },
        }
    }
    bytes.drain(..done);
    Ok(())
}

fn count(
    closes: &Mutex<Closes>,
    of: impl Fn(&mut Closes) -> &mut BTreeMap<&'static str, u64>,
    code: &'static str,
) {
    if let Ok(mut closes) = closes.lock() {
        *of(&mut closes).entry(code).or_default() += 1;
    }
}

/// Reads all there is, and looks for the codes of endings.
fn read(mut socket: TcpStream, until: Instant, closed: &AtomicBool, closes: &Mutex<Closes>) {
    let mut received = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut why = "closed";
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => break,
            },
        }
        let mut rest = &received[..];
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, after)) = after.split_at_checked(length) else {
                break;
            };
            let at = |from: usize| {
                let code = payload.get(from..from + 4)?.first_chunk::<4>()?;
                Some(name(u32::from_be_bytes(*code)))
            };
            match head[3] {
                GOAWAY => why = at(4).unwrap_or(why),
                RST_STREAM => count(closes, |closes| &mut closes.streams, at(0).unwrap_or("?")),
                _ => {}
            }
            rest = after;
        }
        let left = rest.len();
        received.drain(..received.len() - left);
        if Instant::now() >= until || closed.load(Ordering::SeqCst) {
            // The time is over: nobody ended it.
            return;
        }
    }
    // Unless it was this end, as the time was over.
    if !closed.swap(true, Ordering::SeqCst) {
        count(closes, |closes| &mut closes.connections, why);
    }
}
