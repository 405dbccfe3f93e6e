//! Every bound, with its reason.

use std::time::Duration;

/// Upstream's limit on a request's body, 3 MiB.
pub const BODY_BYTES_MAX: usize = 3 << 20;
/// Levels of a body in YAML, as many as in JSON.
pub const YAML_DEPTH_MAX: usize = 128;
/// Values that the aliases of a body in YAML may make, or a few lines would
/// stand for any number of them.
pub const YAML_ALIASED_MAX: usize = 100_000;
/// Others whose connections are kept, upstream's number for webhooks.
pub const CALL_CLIENTS: usize = 200;
/// Idle connections to one of them, and how long they are kept.
pub const CALL_IDLE_CONNECTIONS: usize = 25;
pub const CALL_IDLE: Duration = Duration::from_secs(90);
/// A webhook's answer: a patch may replace a whole object, in base64.
pub const CALL_ANSWER_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// What is told of an answer that is no success.
pub const CALL_TOLD_BYTES: usize = 2 << 10;
/// How often an issuer of tokens may be asked for its keys because a token names one
/// that is not known, and how long such a token waits for them.
pub const OIDC_ASKED: Duration = Duration::from_secs(1);
pub const OIDC_WAIT: Duration = Duration::from_secs(5);
/// How often an issuer that did not answer is asked again, as upstream.
pub const OIDC_RETRY: Duration = Duration::from_secs(10);
/// Upstream's deadline of a call to an issuer.
pub const OIDC_CALL: Duration = Duration::from_secs(30);
/// Upstream's limit on issuers.
pub const OIDC_ISSUERS_MAX: usize = 64;
/// Upstream believes a checked token for so long without looking at it.
pub const OIDC_BELIEVED: Duration = Duration::from_secs(10);
/// One expression in CEL.
pub const EXPRESSION_BYTES_MAX: usize = 10 << 10;
/// Upstream's limit on the name of a writer.
pub const MANAGER_BYTES_MAX: usize = 128;
/// Upstream's limit on all annotations of an object, 256 KiB.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Upstream's limit on the data of a secret or a config map, 1 MiB.
pub const DATA_BYTES_MAX: usize = 1 << 20;
/// Requests served at once, upstream's 400 reads and 200 writes; watches are
/// counted apart. Beyond them a client gets 429.
pub const REQUESTS_MAX: usize = 600;
/// How long a request waits for a seat, a quarter of its time as with upstream.
pub const QUEUED: Duration = Duration::from_secs(15);
/// Requests that wait for a seat, of all levels together.
pub const QUEUED_MAX: usize = 10_000;
/// Queues of one priority level: more would tell no more flows apart.
pub const QUEUES_MAX: usize = 4_096;
/// Watches served at once: each holds a task and a few chunks.
pub const WATCHES_MAX: usize = 20_000;
/// Connections served at once, fewer where the process may not have so many files
/// open. Further ones are closed.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Connections that wait to be taken from an address that is shared, as many as
/// the standard library lets wait.
pub const BACKLOG: u32 = 1024;
/// Connections without which there is no use in starting.
pub const CONNECTIONS_MIN: u64 = 32;
/// File descriptors kept for what is no connection of a client: those to the
/// store, files of certificates, what the runtime polls.
pub const DESCRIPTORS_OWN: u64 = 128;
/// Streams of one HTTP/2 connection, upstream's.
pub const STREAMS_MAX: u32 = 250;
/// All header fields of a request.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Time for a client to send its request's header, or finish a TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(30);
/// Upstream's lifetime of a checked token is ten seconds; here, where what a token
/// ends with is asked for with each request, a certificate is checked again after
/// it.
pub const CERTIFICATE_BELIEVED: Duration = Duration::from_secs(10);
/// How often files of certificates are looked at.
pub const CERTIFICATES: Duration = Duration::from_secs(1);
/// How often the configuration of encryption is looked at, if it is to be.
pub const ENCRYPTION_CONFIG: Duration = Duration::from_secs(1);
/// Events that wait for the audit log, upstream's buffer, and their bytes: what
/// finds no room is dropped and counted.
pub const AUDIT_EVENTS_WAITING: usize = 10_000;
pub const AUDIT_BYTES_WAITING: usize = 64 << 20;
/// Events that are written at once.
pub const AUDIT_TURN: usize = 256;
/// Larger answers are not recorded, upstream's bound on what it sends at once.
pub const AUDIT_BODY_BYTES_MAX: usize = 10 << 20;
/// Answers that are looked at for their status alone are no larger.
pub const AUDIT_STATUS_BYTES_MAX: usize = 16 << 10;
/// Upstream's bound on what a client calls itself in an event.
pub const AUDIT_AGENT_BYTES_MAX: usize = 1_024;
/// Time for events that wait to be written when the server stops.
pub const AUDIT_STOP: Duration = Duration::from_secs(5);
/// Tokens whose signatures are remembered as checked, some hundred bytes each.
pub const TOKENS_KNOWN: usize = 20_000;
/// Time for requests to end when the server stops.
pub const STOP: Duration = Duration::from_secs(10);
/// Upstream's deadline of requests that are not watches.
pub const REQUEST: Duration = Duration::from_secs(60);
/// A longer `timeoutSeconds` is cut to this: no watch is for ever.
pub const WATCH_MAX: Duration = Duration::from_secs(3_600);
/// A watch without `timeoutSeconds` lasts between this and twice this.
pub const WATCH_MIN: Duration = Duration::from_secs(1_800);
/// How often an idle watch that asked for bookmarks gets one, as upstream.
pub const BOOKMARK: Duration = Duration::from_secs(60);
/// Upstream's wait for a revision that the cache has not seen.
pub const FRESH: Duration = Duration::from_secs(3);
/// How often what must be there is looked after, upstream's interval for the
/// Service `kubernetes`.
pub const BOOTSTRAP: Duration = Duration::from_secs(10);
/// Upstream's interval between two renewals of a server's key, by which it is an
/// endpoint of the Service `kubernetes`.
pub const ENDPOINT_RENEWAL: Duration = Duration::from_secs(10);
/// Seconds that such a key lives without, upstream's.
pub const ENDPOINT_LIFETIME: i64 = 15;
/// Upstream waits so long for a store that does not answer when it takes its key
/// away.
pub const ENDPOINT_LEAVE: Duration = Duration::from_secs(20);
/// Roles and bindings reconciled at once at the start: enough that the store takes
/// several in a batch.
pub const POLICY_TOGETHER: usize = 16;
/// While a read waits for a revision, the store is asked for its progress so
/// often, should it not have answered.
pub const PROGRESS: Duration = Duration::from_millis(100);
/// Changes of one resource that a watch can resume from.
pub const HISTORY_EVENTS_MAX: usize = 20_000;
/// Bytes of such changes.
pub const HISTORY_BYTES_MAX: usize = 64 << 20;
/// Changes that a watch takes from the history in one turn.
pub const WATCH_TURN: usize = 256;
/// Chunks of a response are about so large.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Objects fetched from the store at once.
pub const PAGE_OBJECTS: i64 = 500;
/// The largest reply taken from the store: a page of objects of the store's
/// own request limit, 1.5 MiB.
pub const REPLY_BYTES_MAX: usize = 1 << 30;
/// Tries of an update whose client named no version, as upstream.
pub const UPDATE_TRIES: usize = 5;
/// Upstream's limit on the pods that are checked when a namespace becomes
/// stricter.
pub const PODS_CHECKED: usize = 3_000;
/// Tries to find the account of a new namespace, upstream's; a tenth or two of a
/// second lie between them.
pub const ACCOUNT_TRIES: usize = 10;
/// Tries of a write that goes with others that many may want at once, such as
/// that of a service and its node ports.
pub const CLAIM_TRIES: usize = 100;
/// Tries of one store call over all endpoints.
pub const STORE_TRIES: usize = 6;
/// Pause between them.
pub const STORE_PAUSE: Duration = Duration::from_millis(100);
/// Pause before a cache is filled again whose resource has a value that cannot
/// be decoded: somebody has to mend it.
pub const UNREADABLE: Duration = Duration::from_secs(1);
/// Calls under way that read single keys: enough to keep a connection busy, few
/// enough that reads gather meanwhile.
pub const READS_FLYING: usize = 4;
/// Such reads in one call; a store takes 128 operations.
pub const READS_TOGETHER: usize = 32;
/// Deadline of one try.
pub const STORE_CALL: Duration = Duration::from_secs(10);
/// Operations of one JSON patch, upstream's.
pub const PATCH_OPERATIONS_MAX: usize = 10_000;
/// Answers of more bytes are compressed for clients that take gzip, as upstream.
pub const GZIP_BYTES_MIN: usize = 128 << 10;
/// Objects are nested no deeper, in JSON that is not of a known type.
pub const DEPTH_MAX: usize = 100;
