//! Counts calls: begun, ended with which code, messages and bytes each way.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use mizzen_counters::{Counter, Distribution, Histogram, Sharded};
use tonic::Code;

use super::methods::{CallKind, METHODS, Method};
use crate::limits;

/// In the order of their numbers, as Go writes them.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[derive(Debug)]
struct Counted {
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: [Counter; CODES.len()],
    /// With `--metrics extensive`.
    handling: Option<Histogram>,
}

#[derive(Debug)]
struct Shard {
    received_bytes: Counter,
    sent_bytes: Counter,
    methods: Vec<Counted>,
}

/// The calls of all clients of a process.
#[derive(Debug)]
pub struct Calls {
    shards: Sharded<Shard>,
    extensive: bool,
    slow: SlowCalls,
}

/// Logs calls that took long, so many in a second.
#[derive(Debug)]
struct SlowCalls {
    over: Duration,
    /// When the second began, and calls logged and left out since.
    second: Mutex<(Instant, u32, u64)>,
}

impl SlowCalls {
    fn note(&self, method: &Method, took: Duration, code: Code) {
        if took <= self.over {
            return;
        }
        let left_out = {
            let mut second = self.second.lock();
            if second.0.elapsed() >= Duration::from_secs(1) {
                (second.0, second.1) = (Instant::now(), 0);
            }
            if second.1 >= limits::SLOW_CALLS_LOGGED {
                second.2 += 1;
                return;
            }
            second.1 += 1;
            std::mem::take(&mut second.2)
        };
        // etcd's line, without what it says of requests: keys are nobody's business.
        tracing::warn!(
            "time spent" = ?took,
            "response type" = method.path,
            code = ?code,
            left_out,
            "request stats"
        );
    }
}

/// What became of the calls of one method.
#[derive(Clone, Debug)]
pub struct CallFigures {
    pub service: &'static str,
    pub method: &'static str,
    pub kind: CallKind,
    pub started: u64,
    pub received: u64,
    pub sent: u64,
    /// By [`CODES`].
    pub handled: [u64; CODES.len()],
    pub handling: Option<Distribution>,
}

impl Calls {
    /// With `extensive`, how long calls take is counted as well; unary ones that take
    /// longer than `slow` are logged. A process has
    /// one, as long as it lives: a count of who uses it would be written by every
    /// call on every thread.
    pub fn for_the_process(extensive: bool, slow: Duration) -> &'static Self {
        // grpc-prometheus' buckets, milliseconds.
        const BOUNDS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
        let counted = || Counted {
            started: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            handled: Default::default(),
            handling: extensive
                .then(|| Histogram::new(BOUNDS.into_iter().map(Duration::from_millis))),
        };
        Box::leak(Box::new(Self {
            shards: Sharded::new(|| Shard {
                received_bytes: Counter::default(),
                sent_bytes: Counter::default(),
                methods: METHODS.iter().map(|_| counted()).collect(),
            }),
            extensive,
            slow: SlowCalls {
                over: slow,
                second: Mutex::new((Instant::now(), 0, 0)),
            },
        }))
    }

    /// A call begins of the method with this number in [`METHODS`].
    pub fn begin(&'static self, method: usize) -> Call {
        self.shards.own().methods[method].started.add(1);
        Call {
            count: Count {
                calls: self,
                method,
            },
            begun: Instant::now(),
            ended: false,
        }
    }

    /// All methods, and the bytes of messages received and sent.
    pub fn read(&self) -> (Vec<CallFigures>, u64, u64) {
        let mut figures: Vec<CallFigures> = METHODS
            .iter()
            .map(|method| {
                let (service, name) = method.names();
                CallFigures {
                    service,
                    method: name,
                    kind: method.kind(),
                    started: 0,
                    received: 0,
                    sent: 0,
                    handled: [0; CODES.len()],
                    handling: self.extensive.then(Distribution::default),
                }
            })
            .collect();
        let (mut received, mut sent) = (0, 0);
        for shard in self.shards.all() {
            received += shard.received_bytes.read();
            sent += shard.sent_bytes.read();
            for (figures, counted) in figures.iter_mut().zip(&shard.methods) {
                figures.started += counted.started.read();
                figures.received += counted.received.read();
                figures.sent += counted.sent.read();
                for (sum, more) in figures.handled.iter_mut().zip(&counted.handled) {
                    *sum += more.read();
                }
                if let (Some(sum), Some(more)) = (&mut figures.handling, &counted.handling) {
                    sum.add(&more.read());
                }
            }
        }
        (figures, received, sent)
    }
}

/// Where the messages of a call are counted.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    calls: &'static Calls,
    method: usize,
}

impl Count {
    /// A message of the client.
    pub fn received(self, bytes: usize) {
        let shard = self.calls.shards.own();
        shard.received_bytes.add(bytes as u64);
        shard.methods[self.method].received.add(1);
    }

    fn sent(self, messages: u64, bytes: usize) {
        let shard = self.calls.shards.own();
        shard.sent_bytes.add(bytes as u64);
        shard.methods[self.method].sent.add(messages);
    }
}

/// One call under way. Who drops it without an end has not been heard to the end
/// by its client.
#[derive(Debug)]
pub struct Call {
    count: Count,
    begun: Instant,
    ended: bool,
}

impl Call {
    pub fn count(&self) -> Count {
        self.count
    }

    /// So many messages, of so many bytes without their prefixes.
    pub fn sent(&self, messages: u64, bytes: usize) {
        self.count.sent(messages, bytes);
    }

    pub fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let method = &self.count.calls.shards.own().methods[self.count.method];
        if let Some(handled) = usize::try_from(i32::from(code))
            .ok()
            .and_then(|code| method.handled.get(code))
        {
            handled.add(1);
        }
        let took = self.begun.elapsed();
        if let Some(handling) = &method.handling {
            handling.observe(took);
        }
        let calls = self.count.calls;
        let method = &METHODS[self.count.method];
        if method.kind() == CallKind::Unary {
            calls.slow.note(method, took, code);
        }
    }

    /// Of a unary call: the bytes of its reply, or why there is none.
    pub fn end_with(&mut self, reply: Result<usize, &tonic::Status>) {
        match reply {
            Ok(bytes) => {
                self.sent(1, bytes);
                self.end(Code::Ok);
            }
            Err(status) => self.end(status.code()),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::methods::number_of, *};

    fn of<'a>(figures: &'a [CallFigures], method: &str) -> &'a CallFigures {
        let mut found = figures.iter().filter(|figures| figures.method == method);
        found.next().expect("the method is there")
    }

    #[test]
    fn calls_are_counted_once_each() {
        let calls = Calls::for_the_process(true, Duration::from_secs(1));
        assert!(number_of("/etcdserverpb.KV/Nothing").is_none());
        let begin = |path| calls.begin(number_of(path).expect("known"));
        let mut range = begin("/etcdserverpb.KV/Range");
        range.count().received(10);
        range.end_with(Ok(5));
        drop(range);
        let mut put = begin("/etcdserverpb.KV/Put");
        put.end_with(Err(&tonic::Status::not_found("gone")));
        let watch = begin("/etcdserverpb.Watch/Watch");
        watch.sent(2, 3);
        drop(watch);
        let (figures, received, sent) = calls.read();
        assert_eq!((received, sent), (10, 8));
        let range = of(&figures, "Range");
        assert_eq!((range.started, range.received, range.sent), (1, 1, 1));
        assert_eq!((range.handled[0], range.handled[1]), (1, 0));
        assert_eq!(range.handling.as_ref().map(|times| times.count), Some(1));
        assert_eq!(of(&figures, "Put").handled[5], 1);
        let watch = of(&figures, "Watch");
        assert_eq!((watch.sent, watch.handled[1]), (2, 1));
        assert_eq!(figures.len(), METHODS.len());
    }
}
