//! Every RocksDB option that differs from its default, and why.

use mizzen_core::Family;
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DataBlockIndexType, Options, WriteBufferManager,
};

/// What depends on the machine. Memory stays near `cache_bytes` plus
/// `write_buffer_bytes`; while flushes lag behind writes, up to
/// `MAX_WRITE_BUFFERS` times the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Blocks of data, indexes and filters kept in memory, uncompressed.
    pub cache_bytes: usize,
    /// Writes kept in memory before they are flushed, all families together.
    /// More means fewer and larger flushes, and a longer replay after a crash.
    pub write_buffer_bytes: usize,
    /// Threads that flush and compact.
    pub max_background_jobs: u16,
    /// File descriptors. A read of a file that is not open opens it first.
    pub max_open_files: u16,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            write_buffer_bytes: 128 << 20,
            max_background_jobs: 2,
            // 64 GiB in files of 128 MiB, within the usual soft limit of 1,024.
            max_open_files: 512,
        }
    }
}

/// How far the threads that flush and compact stand back, on the scale of
/// nice(1). Beside a thread of clients that never rests they still get a tenth
/// of a processor: enough for a flush not to fall behind for ever.
pub const BACKGROUND_NICE: i32 = 10;

/// Bytes of a file that are on their way to the disk at once: what the disk
/// takes in a fraction of a millisecond, but not so few that a flush waits more
/// than it writes.
const BYTES_PER_SYNC: u64 = 512 << 10;

/// Write buffers of a family, the active one included; all full stops writes.
const MAX_WRITE_BUFFERS: u16 = 4;
/// Files in level 0 beyond which writes are slowed down (RocksDB's default).
const SLOWDOWN_LEVEL0_FILES: u16 = 20;
/// Bytes to be compacted beyond which writes are slowed down (RocksDB's
/// default). At its usual pace that is several minutes of one thread.
const SLOWDOWN_PENDING_BYTES: u64 = 64 << 30;
/// Bits of filter per key: one in a hundred reads of an absent key goes on to
/// a data block.
const FILTER_BITS: f64 = 10.0;

/// How near the family that is worst off is to a slowdown, in per cent.
pub fn pressure(level0_files: u64, full_buffers: u64, pending_bytes: u64) -> u32 {
    let debts = [
        (level0_files, u64::from(SLOWDOWN_LEVEL0_FILES)),
        (full_buffers, u64::from(MAX_WRITE_BUFFERS) - 1),
        (pending_bytes, SLOWDOWN_PENDING_BYTES),
    ];
    let worst = debts
        .into_iter()
        .map(|(debt, limit)| debt.saturating_mul(100) / limit)
        .max();
    u32::try_from(worst.unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The options of the database and of its families in the order of
/// [`Family::ALL`].
pub fn build(options: &EngineOptions, create: bool) -> (Options, [Options; Family::ALL.len()]) {
    let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
    let families = Family::ALL.map(|family| family_options(family, options, &cache));
    (database_options(options, create), families)
}

fn database_options(options: &EngineOptions, create: bool) -> Options {
    // Closing must not wait for a flush: an owner who wants one has asked for
    // it. A file that is written waits for its last portion before it begins
    // the next one. Options without a setter are given as text.
    const TEXT: &str = "avoid_flush_during_shutdown=true;strict_bytes_per_sync=true";
    let base = Options::default().get_options_from_string(TEXT);
    let mut db = base.expect("these options exist in the RocksDB that is compiled in");

    // Only while the directory is being made: see `stamp`.
    db.create_if_missing(create);
    db.create_missing_column_families(create);
    db.set_paranoid_checks(true);
    // Without a write-ahead log this is what keeps the families consistent.
    db.set_atomic_flush(true);

    // One writer applies batches; a lock-free insert would cost it more.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    // The sum over the families decides when to flush; no single one does.
    let buffers = WriteBufferManager::new_write_buffer_manager(options.write_buffer_bytes, false);
    db.set_write_buffer_manager(&buffers);
    db.set_max_background_jobs(i32::from(options.max_background_jobs));
    // Whoever drops the last reader of a file does not wait for its deletion.
    db.set_avoid_unnecessary_blocking_io(true);
    // Dirty pages go out in small portions, one after the other: the Raft log on
    // the same disk would otherwise wait for them in its fsync.
    db.set_bytes_per_sync(BYTES_PER_SYNC);

    db.set_max_open_files(i32::from(options.max_open_files));
    // Opening reads no properties of files, and a short manifest.
    db.set_skip_stats_update_on_db_open(true);
    db.set_max_manifest_file_size(1 << 20);

    // The information log helps after an accident, and must not grow.
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(1 << 20);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

fn family_options(family: Family, options: &EngineOptions, cache: &Cache) -> Options {
    let mut rows = Options::default();
    rows.set_write_buffer_size(options.write_buffer_bytes);
    rows.set_max_write_buffer_number(i32::from(MAX_WRITE_BUFFERS));
    rows.set_level_zero_slowdown_writes_trigger(i32::from(SLOWDOWN_LEVEL0_FILES));
    rows.set_soft_pending_compaction_bytes_limit(SLOWDOWN_PENDING_BYTES as usize);
    rows.set_compression_type(DBCompressionType::Lz4);

    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters count as cache, so memory stays bounded as rows grow.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    match family {
        Family::Head => {
            // Every put reads its key first, which is often a new one.
            table.set_bloom_filter(FILTER_BITS, false);
            // A point read finds its row in a block without a binary search.
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        }
        Family::Log => {
            // Rows arrive in the order of their keys and are read by keys that
            // exist: key ranges of files tell as much as a filter.
            rows.set_target_file_size_base(128 << 20);
            rows.set_max_bytes_for_level_base(512 << 20);
        }
        Family::Meta => table.set_bloom_filter(FILTER_BITS, false),
    }
    rows.set_block_based_table_factory(&table);
    rows
}
