//! Random and mutated messages in sound calls of the KV service.

use anyhow::Result;
use bytes::{BufMut as _, Bytes};
use http::uri::PathAndQuery;
use mizzen_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
};
use mizzen_tests::differential::{Generator, Operation, Step, View, known_stops};
use mizzen_tests::untyped::Raw;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use rand::Rng as _;
use rand::rngs::StdRng;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::touches_canary;

const DEADLINE: Duration = Duration::from_secs(20);
const METHODS: [&str; 6] = [
    "Range",
    "RangeStream",
    "Put",
    "DeleteRange",
    "Txn",
    "Compact",
];
/// Bytes of a random message at most, nested ones included.
const LONGEST: usize = 4096;

/// Sends messages as they are, sound or not.
pub struct Sender {
    grpc: Grpc<Channel>,
    /// The target is an etcd, which must be spared what stops it.
    is_etcd: bool,
}

impl Sender {
    pub fn new(endpoint: &str, is_etcd: bool) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))?
            .timeout(DEADLINE)
            .connect_lazy();
        let grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self { grpc, is_etcd })
    }

    /// Sends one message and returns the method and code of the answer.
    pub async fn case(&mut self, rng: &mut StdRng, view: &View) -> String {
        let (method, message) = draw(rng, view);
        if self.must_not_send(method, &message) {
            return format!("message {method}: not sent");
        }
        let code = match self.call(method, message).await {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        };
        format!("message {method}: {code:?}")
    }

    async fn call(&mut self, method: &'static str, message: Bytes) -> Result<(), Status> {
        let path = PathAndQuery::try_from(format!("/etcdserverpb.KV/{method}"))
            .map_err(|error| Status::internal(error.to_string()))?;
        self.grpc
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let request = tonic::Request::new(message);
        if method == "RangeStream" {
            let mut chunks = self
                .grpc
                .server_streaming(request, path, Raw)
                .await?
                .into_inner();
            while chunks.message().await?.is_some() {}
        } else {
            self.grpc.unary(request, path, Raw).await?;
        }
        Ok(())
    }

    /// Whether the message, if it means anything, could change a canary or stop
    /// an etcd. What does not decode here, an etcd may still take: to its
    /// decoder a field of the wrong type is an unknown one.
    fn must_not_send(&self, method: &str, message: &Bytes) -> bool {
        let message = message.clone();
        match method {
            "Put" => PutRequest::decode(message).is_ok_and(|put| touches_canary(&put.key, b"")),
            "DeleteRange" => DeleteRangeRequest::decode(message).map_or(self.is_etcd, |delete| {
                touches_canary(&delete.key, &delete.range_end)
            }),
            "Txn" => TxnRequest::decode(message).map_or(self.is_etcd, |txn| {
                txn_touches_canary(&txn) || (self.is_etcd && known_stops::forbids_compaction(&txn))
            }),
            _ => false,
        }
    }
}

fn txn_touches_canary(txn: &TxnRequest) -> bool {
    let touches = |op: &RequestOp| match &op.request {
        Some(Request::RequestPut(put)) => touches_canary(&put.key, b""),
        Some(Request::RequestDeleteRange(delete)) => touches_canary(&delete.key, &delete.range_end),
        Some(Request::RequestTxn(txn)) => txn_touches_canary(txn),
        Some(Request::RequestRange(_)) | None => false,
    };
    txn.success.iter().any(touches) || txn.failure.iter().any(touches)
}

/// A method and a message for it, or for another one.
fn draw(rng: &mut StdRng, view: &View) -> (&'static str, Bytes) {
    let (method, message) = match rng.random_range(0..100u32) {
        0..10 => (METHODS[rng.random_range(0..METHODS.len())], random(rng, 0)),
        10..13 => ("Txn", deep_txn(rng)),
        _ => sound(rng, view),
    };
    let mut message = message;
    for _ in 0..rng.random_range(0..4u32) {
        message = mutate(rng, message);
    }
    if rng.random_bool(0.07) {
        return (METHODS[rng.random_range(0..METHODS.len())], message.into());
    }
    (method, message.into())
}

/// An operation of the differential test.
fn sound(rng: &mut StdRng, view: &View) -> (&'static str, Vec<u8>) {
    let generator = Generator::new(rng.random_range(0..1 << 20), 100);
    let (step, _) = generator.step(rng.random_range(0..1 << 20), view);
    match step {
        Step::Refused(txn) => ("Txn", txn.encode_to_vec()),
        Step::Watch(_) => ("Range", random(rng, 0)),
        Step::Compare(operation) => {
            let message = match &operation {
                Operation::Range(request) | Operation::RangeStream(request) => {
                    request.encode_to_vec()
                }
                Operation::Put(request) => request.encode_to_vec(),
                Operation::DeleteRange(request) => request.encode_to_vec(),
                Operation::Txn(request) => request.encode_to_vec(),
                Operation::Compact(request) => request.encode_to_vec(),
                Operation::LeaseGrant(_)
                | Operation::LeaseRevoke(_)
                | Operation::LeaseTimeToLive(_)
                | Operation::LeaseLeases => return ("Range", random(rng, 0)),
            };
            (operation.method(), message)
        }
    }
}

/// Transactions in a transaction, around the limits of decoders and of etcd's
/// budget of operations, and far beyond.
fn deep_txn(rng: &mut StdRng) -> Vec<u8> {
    let depth = match rng.random_range(0..4u32) {
        0 => rng.random_range(30..60u32),
        1 => rng.random_range(90..140),
        2 => rng.random_range(1000..3000),
        _ => rng.random_range(9_000..11_000),
    };
    // Each level is TxnRequest.success or failure { RequestOp.request_txn }.
    // Built from the inside, reversed, so that it takes linear time.
    let mut reversed: Vec<u8> = Vec::new();
    for _ in 0..depth {
        for field in [4, rng.random_range(2..4u32)] {
            let mut prefix = Vec::new();
            encode_key(field, WireType::LengthDelimited, &mut prefix);
            encode_varint(reversed.len() as u64, &mut prefix);
            reversed.extend(prefix.iter().rev());
        }
    }
    reversed.reverse();
    reversed
}

/// Fields of random numbers and types, some nested.
fn random(rng: &mut StdRng, depth: u32) -> Vec<u8> {
    let mut message = Vec::new();
    for _ in 0..rng.random_range(0..8u32) {
        let field = match rng.random_range(0..40u32) {
            0 => 64,
            1 => rng.random_range(1..1 << 29),
            _ => rng.random_range(1..14),
        };
        match rng.random_range(0..10u32) {
            0..3 => {
                encode_key(field, WireType::Varint, &mut message);
                let shift = rng.random_range(0..64u32);
                encode_varint(rng.random::<u64>() >> shift, &mut message);
            }
            3 => {
                encode_key(field, WireType::SixtyFourBit, &mut message);
                message.put_u64(rng.random());
            }
            4 => {
                encode_key(field, WireType::ThirtyTwoBit, &mut message);
                message.put_u32(rng.random());
            }
            5 => encode_key(field, WireType::StartGroup, &mut message),
            6 => encode_key(field, WireType::EndGroup, &mut message),
            _ => {
                let content = if depth < 6 && rng.random_bool(0.6) {
                    random(rng, depth + 1)
                } else {
                    bytes(rng, 24)
                };
                encode_key(field, WireType::LengthDelimited, &mut message);
                encode_varint(content.len() as u64, &mut message);
                message.extend(content);
            }
        }
        if message.len() > LONGEST {
            break;
        }
    }
    message
}

fn mutate(rng: &mut StdRng, mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len();
    let at = rng.random_range(0..=length);
    match rng.random_range(0..9u32) {
        0 | 1 if length > 0 => {
            for _ in 0..rng.random_range(1..5u32) {
                let byte = rng.random_range(0..length);
                message[byte] ^= 1 << rng.random_range(0..8u32);
            }
        }
        2 => message.truncate(at),
        3 => {
            let inserted = bytes(rng, 12);
            message.splice(at..at, inserted);
        }
        4 if length > 0 => {
            // The slice may be a whole field, which is then repeated.
            let to = rng.random_range(at..=length.min(at + 64));
            let slice = message[at..to].to_vec();
            for _ in 0..rng.random_range(1..20u32) {
                message.splice(at..at, slice.iter().copied());
            }
        }
        5 => {
            // A field of the API with the largest numbers, or one too long.
            encode_key(rng.random_range(1..14), WireType::Varint, &mut message);
            message.extend([0xff; 9]);
            message.extend(
                *[&[0x01u8][..], &[0x7f], &[0xff, 0x01], &[]]
                    .get(rng.random_range(0..4usize))
                    .unwrap_or(&&[][..]),
            );
        }
        6 => {
            // A length beyond the end.
            encode_key(
                rng.random_range(1..14),
                WireType::LengthDelimited,
                &mut message,
            );
            encode_varint(
                rng.random::<u64>() >> rng.random_range(0..64u32),
                &mut message,
            );
        }
        7 => {
            // The whole message again: singular fields twice, lists doubled.
            let again = message.clone();
            message.extend(again);
        }
        _ => message.extend(random(rng, 4)),
    }
    // Not much beyond the largest request that a member accepts.
    message.truncate(4 << 20);
    message
}

fn bytes(rng: &mut StdRng, longest: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=longest)];
    rng.fill(bytes.as_mut_slice());
    bytes
}
