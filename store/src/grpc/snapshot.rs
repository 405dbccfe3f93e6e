//! `Maintenance/Snapshot`: the store as etcd's database file, and its SHA-256.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mizzen_bolt::{PAGE_BYTES, Sizes, Writer};
use mizzen_engine::Engine;
use mizzen_proto::etcdserverpb as wire;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tokio::{runtime::Handle, sync::mpsc};
use tonic::Status;

use super::{
    answering,
    api::Api,
    frame::{decode, framed},
    status::status,
};
use crate::{
    etcd_file::{self, Failure},
    limits,
    server::{Caller, Copy, Error},
    version,
    workers::Workers,
};

/// Bytes of one message, as etcd's.
const BLOB_BYTES: usize = 8 * PAGE_BYTES;

impl<E: Engine> Api<E> {
    /// Learners answer as well.
    pub async fn snapshot(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<mpsc::Receiver<Result<Bytes, Status>>, Status> {
        let _: wire::SnapshotRequest = decode(body)?;
        let copy = self.server.copy(caller).await.map_err(status)?;
        let (sender, messages) = mpsc::channel(4);
        answering(sender.clone(), async move {
            let to_client = sender.clone();
            let here = Handle::current();
            let sent = Workers::Threads.run(move || send(&copy, to_client, here));
            let failure = match sent.await {
                Ok(Ok(())) => return,
                Ok(Err(Failure::Sink(error))) => error,
                Ok(Err(refused)) => Error::Failed(refused.to_string()),
                Err(_) => Error::Stopped,
            };
            tracing::warn!(%failure, "a snapshot was not sent to its end");
            // A client that went away wants no reason.
            let _ = sender.send(Err(status(failure))).await;
        });
        Ok(messages)
    }
}

/// Goes over the rows twice: see [`mizzen_bolt::measure`].
fn send<E: Engine>(
    copy: &Copy<E>,
    sender: mpsc::Sender<Result<Bytes, Status>>,
    here: Handle,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let sizes = mizzen_bolt::measure(|rows| etcd_file::rows(copy, rows))?;
    let bytes = sizes.bytes();
    tracing::info!(
        bytes,
        revision = copy.revision(),
        "sending database snapshot to client"
    );
    let mut blobs = Blobs::new(sizes, sender, here);
    let mut writer = Writer::begin(sizes, |page: Vec<u8>| blobs.push(&page))?;
    etcd_file::rows(copy, &mut writer)?;
    writer.finish(sizes)?;
    blobs.end()?;
    let took = begun.elapsed();
    tracing::info!(bytes, ?took, "sent database snapshot to client");
    Ok(())
}

/// Messages to the client, at its pace and not faster than the rate for transfers.
struct Blobs {
    sender: mpsc::Sender<Result<Bytes, Status>>,
    here: Handle,
    gathered: Vec<u8>,
    remaining: u64,
    sent: u64,
    begun: Instant,
    hash: Sha256,
}

impl Blobs {
    fn new(sizes: Sizes, sender: mpsc::Sender<Result<Bytes, Status>>, here: Handle) -> Self {
        Self {
            sender,
            here,
            gathered: Vec::with_capacity(BLOB_BYTES),
            remaining: sizes.bytes(),
            sent: 0,
            begun: Instant::now(),
            hash: Sha256::new(),
        }
    }

    fn push(&mut self, mut pages: &[u8]) -> Result<(), Error> {
        while !pages.is_empty() {
            let (part, rest) = pages.split_at(pages.len().min(BLOB_BYTES - self.gathered.len()));
            self.gathered.extend_from_slice(part);
            pages = rest;
            if self.gathered.len() == BLOB_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let blob = std::mem::replace(&mut self.gathered, Vec::with_capacity(BLOB_BYTES));
        self.hash.update(&blob);
        self.remaining = self.remaining.saturating_sub(blob.len() as u64);
        self.sent += blob.len() as u64;
        self.message(blob.into())?;
        let due = self.sent as f64 / limits::SNAPSHOT_BYTES_PER_SECOND as f64;
        let early = Duration::from_secs_f64(due).saturating_sub(self.begun.elapsed());
        if early > PAUSE_MIN {
            std::thread::sleep(early);
        }
        Ok(())
    }

    fn message(&self, blob: Bytes) -> Result<(), Error> {
        let message = wire::SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob,
            version: version::STORAGE.to_owned(),
        };
        let sending = self.sender.send(Ok(framed(&message.encode_to_vec())));
        let sending = tokio::time::timeout(limits::SNAPSHOT_STALL, sending);
        match self.here.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            // The client went away.
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    fn end(mut self) -> Result<(), Error> {
        self.flush()?;
        let hash = Bytes::copy_from_slice(&std::mem::take(&mut self.hash).finalize());
        self.message(hash)
    }
}

/// A pause that is shorter is not worth a wake-up.
const PAUSE_MIN: Duration = Duration::from_millis(10);
