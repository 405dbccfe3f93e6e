//! Who does the work of a member: threads and tasks that live as long as it
//! does, each with a name and an owner; threads for what may wait for a disk or
//! take long, so that nobody else waits; or the one thread that does everything,
//! so that a simulation's time and order are its own.
//!
//! Whatever is started here ends the member when it panics, and if it ends while
//! the member goes on: a member some part of which is silent must not look
//! healthy. What only one client asked for is not: its panic is that client's.
//!
//! Knows threads and tasks. Must not know what the work is.

use std::{
    any::Any,
    cell::Cell,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use futures::FutureExt as _;
use tokio::{runtime::Handle, task::JoinHandle};

tokio::task_local! {
    /// Whose the running task is; what it starts is the same one's.
    static OWNER: Owner;
}

/// A member, as those see it who work for it.
#[derive(Clone)]
pub struct Owner {
    inner: Arc<Inner>,
}

struct Inner {
    fail: Box<dyn Fn(&io::Error) + Send + Sync>,
    stopping: AtomicBool,
}

impl Owner {
    /// `fail` must end the member.
    pub fn new(fail: impl Fn(&io::Error) + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::new(Inner {
                fail: Box::new(fail),
                stopping: AtomicBool::new(false),
            }),
        }
    }

    /// That of the running task. Tests of single parts have none.
    pub fn current() -> Self {
        let nobody = || Self::new(|error| tracing::error!(%error, "nobody's work has ended"));
        OWNER.try_with(Self::clone).unwrap_or_else(|_| nobody())
    }

    /// Runs `work` as this one's.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        OWNER.scope(self.clone(), work).await
    }

    /// From here on whatever it started may end.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
    }

    fn panicked(&self, name: &str, panic: &(dyn Any + Send)) {
        let message = message(panic);
        (self.inner.fail)(&io::Error::other(format!("{name} panicked: {message}")));
    }

    fn ended(&self, name: &str, outcome: &thread::Result<()>) {
        match outcome {
            Err(panic) => self.panicked(name, &**panic),
            Ok(()) if self.inner.stopping.load(Ordering::Acquire) => {}
            Ok(()) => (self.inner.fail)(&io::Error::other(format!(
                "{name} has ended while the member goes on"
            ))),
        }
    }

    async fn attend(self, name: &'static str, body: impl Future<Output = ()>) {
        let outcome = AssertUnwindSafe(self.scope(body)).catch_unwind().await;
        self.ended(name, &outcome);
    }

    /// As [`spawn`], for this owner and on another runtime.
    pub fn spawn_on(
        &self,
        runtime: &Handle,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        runtime.spawn(self.clone().attend(name, body))
    }
}

/// Starts a task that lives as long as the member.
pub fn spawn(
    name: &'static str,
    body: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(Owner::current().attend(name, body))
}

/// `body`, for a task that may end before the member does, but not by a panic.
pub fn watched<T>(name: &'static str, body: impl Future<Output = T>) -> impl Future<Output = T> {
    let owner = Owner::current();
    async move {
        match AssertUnwindSafe(owner.scope(body)).catch_unwind().await {
            Ok(output) => output,
            Err(panic) => {
                owner.panicked(name, &*panic);
                resume_unwind(panic)
            }
        }
    }
}

/// Starts a task that is a part of one request, or answers one. If it panics,
/// whoever waits for it must be able to tell by what it drops.
pub fn detached<T: Send + 'static>(
    body: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(body)
}

/// Starts a thread that lives as long as the member.
pub fn thread(name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let owner = Owner::current();
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || owner.ended(name, &catch_unwind(AssertUnwindSafe(body))))?;
    Ok(())
}

/// How far threads that may block stand back behind those that serve connections,
/// on the scale of nice(1): a quarter of a processor that both want.
const BLOCKING_NICE: i32 = 5;

/// Has this thread give way to those that serve many requests in the time of one
/// large read, where processors are short.
fn stand_back() {
    thread_local!(static STANDS_BACK: Cell<bool> = const { Cell::new(false) });
    if !STANDS_BACK.replace(true) {
        // Without it all is as well as before, only slower for others.
        let _ = rustix::process::nice(BLOCKING_NICE);
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of another type than text")
}

/// Has every panic of this process logged, in one line.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = message(panic.payload());
        let place = panic.location().map(ToString::to_string);
        tracing::error!(
            thread = thread::current().name().unwrap_or_default(),
            place = place.unwrap_or_default(),
            message,
            "panicked"
        );
    }));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Threads,
    /// Of the tokio runtime that it is called on. For simulation: what waits for
    /// something that another task does would wait for ever.
    Tasks,
}

impl Workers {
    /// Starts a worker that lives as long as the member, from a task. `body` may
    /// block at any moment; it awaits nothing but its next piece of work, which
    /// comes through a channel.
    pub fn start(
        self,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Self::Threads => {
                let (owner, runtime) = (Owner::current(), Handle::current());
                thread(name, move || runtime.block_on(owner.scope(body)))
            }
            Self::Tasks => {
                spawn(name, body);
                Ok(())
            }
        }
    }

    /// Does a piece of the member's own work that may block, beside the caller
    /// and for nobody who would hear of a panic.
    pub fn beside(self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        let owner = Owner::current();
        let work = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                owner.panicked(name, &*panic);
            }
        };
        match self {
            Self::Threads => drop(tokio::task::spawn_blocking(work)),
            Self::Tasks => work(),
        }
    }

    /// Runs `work`, which may block, beside the caller.
    ///
    /// # Errors
    /// If it panicked, or the runtime is ending.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Threads => {
                let work = || {
                    stand_back();
                    work()
                };
                tokio::task::spawn_blocking(work)
                    .await
                    .map_err(io::Error::other)
            }
            Self::Tasks => Ok(work()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// An owner, and why it failed.
    fn owner() -> (Owner, mpsc::Receiver<String>) {
        let (failed, failures) = mpsc::channel(8);
        let fail = move |error: &io::Error| failed.try_send(error.to_string()).expect("room");
        (Owner::new(fail), failures)
    }

    #[tokio::test]
    async fn whoever_panics_ends_the_member_by_name() {
        let (owner, mut failures) = owner();
        owner
            .scope(async {
                spawn("a task", async { panic!("one") });
                thread("a thread", || panic!("{}", "two")).expect("started");
                Workers::Threads.beside("a piece", || panic!("three"));
                detached(watched("a part", async { panic!("four") }));
                // What a task starts has the same owner.
                spawn("an outer task", async {
                    spawn("an inner task", async { panic!("five") });
                    std::future::pending().await
                });
                let worker = async { panic!("six") };
                Workers::Threads.start("a worker", worker).expect("started");
            })
            .await;
        let mut found = Vec::new();
        for _ in 0..6 {
            found.push(failures.recv().await.expect("a failure"));
        }
        found.sort();
        let expected = [
            "a part panicked: four",
            "a piece panicked: three",
            "a task panicked: one",
            "a thread panicked: two",
            "a worker panicked: six",
            "an inner task panicked: five",
        ];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn whoever_ends_early_ends_the_member() {
        let (owner, mut failures) = owner();
        let task = async { spawn("a task", async {}).await };
        owner.scope(task).await.expect("no panic");
        let reason = failures.recv().await.expect("a failure");
        assert_eq!(reason, "a task has ended while the member goes on");
    }

    #[tokio::test]
    async fn who_stops_may_end() {
        let (owner, mut failures) = owner();
        owner.stop();
        let (task, aborted) = owner
            .scope(async {
                let aborted = spawn("another", std::future::pending());
                (spawn("a task", async {}), aborted)
            })
            .await;
        task.await.expect("no panic");
        aborted.abort();
        assert!(aborted.await.is_err_and(|error| error.is_cancelled()));
        assert!(failures.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_panic_of_a_request_is_its_own() {
        let (owner, mut failures) = owner();
        let (asked, read) = owner
            .scope(async {
                let asked = detached(async { panic!("a request") });
                let read = Workers::Threads.run(|| panic!("a read")).await;
                (asked, read)
            })
            .await;
        assert!(asked.await.is_err_and(|error| error.is_panic()));
        assert!(read.is_err());
        assert!(failures.try_recv().is_err());
    }
}
