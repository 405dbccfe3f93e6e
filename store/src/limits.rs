//! Every bound of a replica, with its reason. Beyond a bound a client gets a
//! clear refusal; nothing grows with what clients send.

use std::time::Duration;

/// What gRPC framing may add to the largest request, bytes (etcd's value).
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Largest reply, bytes, where memory does not allow less: more does not fit into
/// a message (etcd's limit).
pub const REPLY_BYTES: usize = i32::MAX as usize;

/// The share of a member's memory that replies may take, one part in so many. A
/// reply is copied once into its message, which the transport pays for.
pub const REPLIES_SHARE: usize = 8;

/// And one reply of these, one part in so many.
pub const REPLY_SHARE: usize = 2;

/// The share of a member's memory for the cache of rows, where that is less than
/// the engine would take.
pub const CACHE_SHARE: usize = 8;

/// And for one buffer of writes; up to four of them wait for flushes.
pub const WRITE_BUFFER_SHARE: usize = 32;

/// The share of a member's memory for proposals whose outcome is waited for.
pub const PROPOSALS_SHARE: usize = 16;

/// Streams one client connection may have open (HTTP/2
/// SETTINGS_MAX_CONCURRENT_STREAMS). etcd leaves it at u32::MAX; a connection
/// that needs more than this opens another one.
pub const STREAMS_PER_CONNECTION: u32 = 100_000;

/// Proposals waiting for their outcome on one member. Each holds at most one
/// request; beyond it clients are told to come back.
pub const PROPOSALS_IN_FLIGHT: usize = 16_384;

/// Bytes of proposals waiting for their outcome on one member, unless memory is
/// scarce: a second of what a disk takes.
pub const PROPOSAL_BYTES_IN_FLIGHT: usize = 64 * 1024 * 1024;

/// How long a proposal or a read is to wait for the group at most, beside what
/// the disk takes: what Kubernetes allows a whole call (its objective for 99 of
/// 100). See `server/admission.rs`.
pub const WAIT: Duration = Duration::from_secs(1);

/// How often it is looked at how many wait no longer than that.
pub const WAIT_INTERVAL: Duration = Duration::from_millis(250);

/// Intervals in a row without anybody quick until a queue counts as one that stays.
pub const WAIT_INTERVALS: u32 = 2;

/// And as many may wait on one member whatever it takes.
pub const WAITING_MIN: usize = 32;

/// Bytes in the log's queue from which on a leader takes no more proposals, also
/// for those that nobody waits for any longer, and a follower reads no further
/// what its leader sends. Half of what the queue can hold.
pub const LOG_QUEUE_BYTES: usize = 128 * 1024 * 1024;

/// Committed entries not yet applied beyond which new proposals are refused,
/// so that a member that applies slowly does not fall behind without end
/// (etcd's gap).
pub const COMMIT_APPLY_GAP: u64 = 5_000;

/// Entries applied and made visible together. Larger runs cost readers
/// freshness, smaller ones cost a batch write each.
pub const APPLY_RUN_ENTRIES: usize = 1_024;

/// Bytes of proposals applied together: bounds the memory of one batch.
pub const APPLY_RUN_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of entries read from the log at once, for replication and for apply.
/// Far below the peers' message limit; one entry may be larger on its own.
pub const RAFT_READ_BYTES: usize = 2 * 1024 * 1024;

/// Entries in one replication message. With small entries this is what fills
/// RAFT_READ_BYTES.
pub const APPEND_ENTRIES: u64 = 4_096;

/// Largest entry of the log, bytes: its own bound.
pub const LOG_ENTRY_BYTES: usize = 15 << 20;

/// Largest message between peers, bytes: one read of the log, whose last entry may
/// be the largest that the log holds. Not derived from --max-request-bytes, which
/// may differ between members.
pub const PEER_MESSAGE_BYTES: usize = RAFT_READ_BYTES + LOG_ENTRY_BYTES + GRPC_OVERHEAD_BYTES;

/// Largest --max-request-bytes, bytes: what the log holds in one entry, less what a
/// proposal has around a request.
pub const REQUEST_BYTES_MAX: usize = LOG_ENTRY_BYTES - 4096;

/// A follower that leaves a replication message unanswered for this long, or
/// up to twice that, is taken to hang. Far beyond what a busy disk takes.
pub const PEER_STALL: Duration = Duration::from_secs(10);

/// Forwarded batches sent to the leader and not answered.
pub const FORWARDS_IN_FLIGHT: usize = 64;

/// Proposals in one forwarded batch.
pub const FORWARD_BATCH: usize = 1_024;

/// Bytes in one forwarded batch, unless its only proposal is larger.
pub const FORWARD_BATCH_BYTES: usize = 1024 * 1024;

/// What a coalescing connection holds back before it writes through, bytes.
pub const COALESCE_BYTES: usize = 256 * 1024;

/// Time to connect to a peer, in which the first message of a connection is sent
/// twice. Members are in one data centre or near. etcd's is the same with its
/// default election timeout.
pub const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a peer on which nothing sent is acknowledged for this long is
/// given up, as etcd's (ConnReadTimeout). TCP by itself tries again at ever longer
/// intervals: after a minute without a network it would rest for another one.
pub const PEER_ACKNOWLEDGES: Duration = Duration::from_secs(5);

/// Rows a read may touch on an async worker, which it must not hold for long;
/// what needs more goes to a thread of its own.
pub const INLINE_ROWS: usize = 64;

/// And their bytes: a copy of some ten microseconds.
pub const INLINE_BYTES: usize = 256 * 1024;

/// Calls of one client connection that wait for the group at once; further ones
/// wait for those. As many as fit into one round without others noticing, and more
/// than an API server sends.
pub const CALLS_PER_CONNECTION: usize = 1_024;

/// Reads of one client connection that have a thread, or a large reply on its way.
/// A client alone gets half of the threads.
pub const READS_PER_CONNECTION: usize = BLOCKING_THREADS / 2;

/// Replies from this size on, bytes, are large: their turn ends when they have
/// left.
pub const LARGE_REPLY_BYTES: usize = 256 * 1024;

/// Parts of a reply from this size on, bytes, are handed to the transport as they
/// are. Smaller ones are quicker to copy than to look after.
pub const REPLY_PIECE_BYTES: usize = 32 * 1024;

/// Reads that wait for one of the BLOCKING_THREADS, or have one. Each keeps a
/// sight of the rows, and with it their files; further ones are refused.
pub const BLOCKING_READS: usize = 1_024;

/// What a restore takes over at once, bytes: it is held three times until it is
/// written.
pub const RESTORE_BATCH_BYTES: usize = 4 << 20;

/// What one row of it costs beside its key and value, bytes.
pub const RESTORE_ITEM_BYTES: usize = 256;

/// Bytes that requests on `--listen-metrics-urls` may make a member hold together:
/// of small pages, on few connections.
pub const PROBES_BYTES: usize = 4 * 1024 * 1024;

/// Messages of a request to the JSON gateway that may be inside of each other; as
/// many as a decoder of protobuf lets in.
pub const GATEWAY_DEPTH: usize = 100;

/// What the JSON gateway writes of a reply at once, bytes.
pub const GATEWAY_PIECE_BYTES: usize = 64 * 1024;

/// Copies of the store sent to clients at once. Each takes one of the
/// BLOCKING_THREADS and keeps a sight of the rows until its client has it.
pub const COPIES: usize = 2;

/// Single keys that a transaction may read, or ask the earlier value of, without
/// a look at how large they are before it is proposed.
pub const SINGLE_READS: usize = 8;

/// Keys in the first chunk of a streamed range, as etcd's.
pub const RANGE_STREAM_FIRST_CHUNK: usize = 10;

/// Bytes of versions a store may keep, unless --quota-backend-bytes says
/// otherwise (etcd's value).
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;

/// Reclaim work done at once after a compaction, in rows, before other work
/// gets its turn.
pub const RECLAIM_ROWS: usize = 1_000;

/// How long rows may stay unflushed at most: bounds what a restart replays from the
/// log. Earlier when the log has grown by FLUSH_LOG_BYTES.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes of log after which the rows are flushed: about what the engine keeps
/// in memory at most.
pub const FLUSH_LOG_BYTES: u64 = 128 * 1024 * 1024;

/// Rows read at the same time while the log is replayed after a restart. What
/// a disk takes at once; each reader is a thread for the length of one run.
pub const REPLAY_READERS: usize = 16;

/// Bytes of log kept for followers that come back. Reading them at a start
/// takes a fraction of a second.
pub const LOG_KEEP_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes of log up to which it is kept for a follower on its way, or for the
/// receiver of a snapshot. Beyond it that follower needs another snapshot,
/// instead of everybody the disk space.
pub const LOG_HOLD_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// A follower not heard of for this long is not waited for.
pub const FOLLOWER_GONE_AFTER: Duration = Duration::from_secs(10);

/// Bytes of one chunk of a snapshot: far below the peers' message limit, and
/// large enough that a chunk's overhead is nothing. A thread that serves clients
/// is busy with one for some hundred microseconds.
pub const SNAPSHOT_CHUNK_BYTES: usize = 128 * 1024;

/// Rate at which a snapshot is sent at most, bytes per second: half of a
/// gigabit's, and of what a slow disk takes, so that the log beside it goes on.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;

/// A transfer works one part in this many of its time and leaves the rest to
/// others, so it gives way where processors, disk or network are busy
/// (`decisions/0008-pace-of-transfers.md`).
pub const SNAPSHOT_SHARE: u32 = 16;

/// Rate that it keeps nevertheless, bytes per second, if it can: the log that
/// is held for its receiver must not reach LOG_HOLD_BYTES before the end.
pub const SNAPSHOT_BYTES_PER_SECOND_BUSY: u64 = 16 * 1024 * 1024;

/// A transfer on which nothing moves for this long is given up. Installing,
/// during which nothing moves, takes less.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(30);

/// Connections of clients served at once, fewer where the process may not have so
/// many files open (`descriptors.rs`). Further ones are closed.
pub const CONNECTIONS: usize = 32_768;

/// Bytes a client may send on one stream before it is read: one request of the
/// default size never waits.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Bytes a client may send on one connection before they are read.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// A connection on which nothing happens is pinged after this time (etcd's
/// --grpc-keepalive-interval).
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// And closed when no answer comes in this time (etcd's
/// --grpc-keepalive-timeout).
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// More often than this no connection is pinged, whatever is configured (grpc-go's).
pub const KEEPALIVE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Longer than any member lives, and still a time that can be added to another.
pub const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Slow calls that are logged in a second; the next line says how many were not. When
/// a member is overloaded all calls are slow, and the log must not be one more load.
pub const SLOW_CALLS_LOGGED: u32 = 100;

/// An HTTP/1 client must have sent its headers by then.
pub const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time a client has for what it begins: its first settings, a frame, a header
/// block, the body of a unary request, and 16 KiB of the reply to one. The
/// largest request takes less on the slowest network there is between machines.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// Threads for reads that need the disk or take long. More would only queue
/// at the disk; each holds at most one reply.
pub const BLOCKING_THREADS: usize = 16;

/// Readers waiting for a quorum round to begin; the next round takes them all.
/// Each is a channel of a few dozen bytes.
pub const READERS_WAITING: usize = 65_536;

/// Questions about leases waiting on one member to be sent to the leader;
/// beyond it streams of keepalives are read no further. Each is some dozen
/// bytes.
pub const LEASE_QUESTIONS: usize = 65_536;

/// Questions about leases in one message to the leader: some 40 KiB.
pub const LEASE_BATCH: usize = 4_096;

/// Messages with questions about leases sent to the leader and not answered.
/// What comes meanwhile gathers for the next.
pub const LEASE_BATCHES: usize = 8;

/// Messages with questions about leases that share one quorum round.
pub const LEASE_ROUND: usize = 64;

/// Expired leases in one entry of the log. Other writes wait while they are
/// ended, for about a millisecond.
pub const LEASE_REVOKES: usize = 256;

/// From one entry that ends leases to the next when many end at once, if they
/// need not be larger.
pub const LEASE_TICK: Duration = Duration::from_millis(4);

/// How much later than an election allows who waits for the end of a lease may
/// see it. The leader spreads ends over half of that time (a new leader has
/// added the election timeout to each deadline already); beside writes of
/// clients it may need longer, see [`LEASE_PACE_BESIDE_WRITES`].
pub const LEASE_LATE: Duration = Duration::from_secs(1);

/// How often a leader counts the leases that are to be ended.
pub const LEASE_PACE_INTERVAL: Duration = Duration::from_millis(50);

/// Leases per second that are ended without regard to other writes.
pub const LEASE_PACE_MIN: u64 = 4_000;

/// Leases per second that are ended beside writes of clients, however many are
/// due: the writes would wait. etcd ends 1,000 (its leaseRevokeRate).
pub const LEASE_PACE_BESIDE_WRITES: u64 = 6_000;

/// Entries of others per second from which on there are writes of clients: more
/// than a cluster writes on its own account.
pub const LEASE_PACE_WRITES: u64 = 20;

/// Leases in one checkpoint (etcd's maxLeaseCheckpointBatchSize).
pub const LEASE_CHECKPOINTS: usize = 1_000;

/// Time without a renewal after which what is left of a lease is written into
/// the log (etcd's default). Shorter leases never are: at a change of leader
/// they get their full time to live again.
pub const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Leases granted or revoked while a new leader reads all leases; beyond it
/// the leader reads them anew. 24 bytes each.
pub const LEASE_CHANGES: usize = 1 << 18;

/// Renewals of one stream of keepalives under way at once; the stream is read
/// no further meanwhile. One round of the leader serves them all.
pub const LEASE_KEEPALIVES: usize = 256;

/// Elections without a leader after which streams that asked for one are
/// closed (etcd's maxNoLeaderCnt).
pub const ELECTIONS_WITHOUT_LEADER: u32 = 3;

/// Bytes queued for one watch stream that its client does not read. Beyond it
/// the stream's watches read the past when there is room again. With a page of
/// history on top a stalled stream stays below 4 MiB.
pub const WATCH_STREAM_BYTES: usize = 2 * 1024 * 1024;

/// Bytes queued for all watch streams of a member, beyond which each may have
/// a sixty-fourth of WATCH_STREAM_BYTES only: with WATCH_STREAMS of them the
/// same again.
pub const WATCH_ALL_BYTES: usize = 512 * 1024 * 1024;

/// Bytes of newest revisions kept in memory, so that who is nearly up to date
/// does not go to the rows.
pub const WATCH_RING_BYTES: usize = 16 * 1024 * 1024;

/// Revisions told to live watches before a request to make or end one gets its
/// turn.
pub const WATCH_DISPATCH_REVISIONS: usize = 64;

/// Bytes of one page of history for the lagging watches of a stream.
pub const WATCH_PAGE_BYTES: usize = 512 * 1024;

/// Rows looked at for one page of history: some milliseconds.
pub const WATCH_PAGE_ROWS: usize = 8_192;

/// Bytes of one revision that watches are told of from the past. A client takes
/// a message of this size; a watch that a larger one concerns (somebody deleted
/// very much at once, and it wants to know what was there before) is ended with
/// the reason, as it is when this would exceed WATCH_ALL_BYTES.
pub const WATCH_REVISION_BYTES: usize = 64 * 1024 * 1024;

/// Pages of history read at once on one member: the past must not take all
/// threads, nor the disk, from reads of the present.
pub const WATCH_READERS: usize = 2;

/// Watches of one member, some 300 bytes each.
pub const WATCHES: usize = 1_000_000;

/// Watch streams of one member. Each may hold WATCH_STREAM_BYTES if its client
/// does not read.
pub const WATCH_STREAMS: usize = 16_384;

/// Bytes handed to a connection at once from one watch stream.
pub const WATCH_CHUNK_BYTES: usize = 64 * 1024;

/// How often idle watches that asked for it are told that they miss nothing
/// (etcd's --watch-progress-notify-interval).
pub const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How often members ask each other for a sign of life. One small call per
/// pair of members.
pub const PING_INTERVAL: Duration = Duration::from_millis(500);

/// The same while a member is missing.
pub const PING_INTERVAL_MISSING: Duration = Duration::from_millis(100);

/// And at least this, whatever news there is of members: they are asked all together.
pub const PING_INTERVAL_LEAST: Duration = Duration::from_millis(10);

/// How long a new member waits for the version of its cluster before it serves
/// clients. Members that are there agree at once; where one is missing, clients are
/// not kept waiting for it.
pub const VERSION_WAIT: Duration = Duration::from_secs(1);

/// Keys that are counted one by one for whoever wants their number; of more an estimate
/// is told. So many rows take less than a millisecond.
pub const KEYS_COUNTED: u64 = 1_000;

/// How often the pause between attempts to reach a discovery service is doubled, from
/// two seconds on (etcd's value): a new cluster waits for it for ever.
pub const DISCOVERY_DOUBLINGS: usize = 8;

/// How long a member that takes pings and does not answer them still counts as
/// connected: etcd's time limit of a read from a peer.
pub const PEER_SILENCE: Duration = Duration::from_secs(5);

/// How often a leader looks whether the Raft configuration follows the
/// members. Only a look at memory when it does.
pub const RECONCILE_INTERVAL: Duration = Duration::from_millis(100);

/// Entries a new voter may lack when it gets its vote: a fraction of a second
/// of writes.
pub const IN_SYNC_GAP: u64 = 1_000;

/// Until a member that could not announce itself tries again: it may be far
/// behind, which is refused at once.
pub const ANNOUNCE_PAUSE: Duration = Duration::from_millis(100);

/// Time for rows to reach what has been decided, before members are judged by
/// them: a quorum that works needs milliseconds.
pub const REFRESH_LIMIT: Duration = Duration::from_millis(500);

/// How long a decided change of the membership is waited for before it is
/// answered.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(3);

/// Learners a cluster may have (etcd's --max-learners). Each costs the leader
/// as much as a voter.
pub const LEARNERS: usize = 1;

/// How long a leader that stops tries to hand leadership over. With a healthy
/// voter it takes milliseconds.
pub const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// How long a process that ends waits for its rows to be closed by whoever
/// used them last.
pub const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// How often a leader looks whether its disk answers.
pub const DISK_WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// What is left free on a member's disk at least, bytes: what the engine has
/// in memory and must be able to flush (128 MiB), log segments made in advance
/// (64 MiB), and what is accepted before a low disk is noticed everywhere.
pub const DISK_RESERVE_MIN: u64 = 256 << 20;

/// And at most: on a large disk 2 % would be waste.
pub const DISK_RESERVE_MAX: u64 = 2 << 30;

/// How often a member looks at its disk.
pub const SPACE_INTERVAL: Duration = Duration::from_millis(200);

/// What is reported as the size of an empty store, bytes: rows of the members
/// and the like. Clients take 0 for unknown.
pub const EMPTY_STORE_BYTES: i64 = 16 * 1024;

/// Announcements of election leaders that wait for a client that observes.
pub const OBSERVED: usize = 16;

/// A client must have made its TLS handshake by then, the wait for a place
/// included (etcd's tlsHandshakeTimeout).
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// TLS handshakes under way at once on one listener, some 20 KiB each; who comes
/// then waits for a place. Whoever begins one and says no more holds a place
/// until the timeout.
pub const TLS_HANDSHAKES: usize = 4_096;

/// Time for a connection and a TLS handshake with a peer.
pub const TLS_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Read from a TLS connection at once, bytes: a record.
pub const TLS_READ_BYTES: usize = 16 * 1024;

/// How often the files of certificates, authorities and revocations are looked
/// at: within this time a revocation holds.
pub const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of one file of certificates, authorities or revocations: a list with
/// some hundred thousand serial numbers.
pub const TLS_FILE_BYTES: u64 = 16 << 20;

/// How long a simple token lives after it was used last (etcd's
/// --auth-token-ttl).
pub const AUTH_TOKEN_TTL: Duration = Duration::from_secs(5 * 60);

/// Simple tokens that live on one member, some 150 bytes each. Beyond it nobody
/// gets a new one until some expire.
pub const AUTH_TOKENS: usize = 65_536;

/// Passwords being hashed or looked at, those waiting for their turn included.
/// Half of the processors work on them, each ten or twenty a second at the
/// default cost; beyond it clients are told to come back.
pub const AUTH_PASSWORDS: usize = 64;

/// How often a login is begun anew because users were changed meanwhile.
pub const AUTH_ATTEMPTS: usize = 8;

/// The status page's rates are of so much time at most.
pub const RATES_WINDOW: Duration = Duration::from_secs(60);

/// Between two looks that rates are computed from; with [`RATES_WINDOW`], it says
/// how many are kept.
pub const RATES_INTERVAL: Duration = Duration::from_secs(1);

/// After so many seconds a browser looks at the status page again.
pub const STATUS_REFRESH_S: u64 = 5;
