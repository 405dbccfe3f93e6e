//! What the kernel says of this process, under the names that every client of
//! Prometheus uses.

use procfs::{
    ProcResult,
    process::{LimitValue, Process},
};

use super::families::Families;

/// Each number, or why it is not to be had.
pub fn collect(families: &mut Families) -> ProcResult<()> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second() as f64;
    families
        .counters(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        )
        .add(&[], (stat.utime + stat.stime) as f64 / ticks);
    families.gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        stat.rss as f64 * procfs::page_size() as f64,
    );
    families.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        stat.vsize as f64,
    );
    families.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
    );
    families.gauge(
        "process_threads",
        "Number of threads of the process.",
        stat.num_threads as f64,
    );
    let open = process.fd_count()? as f64;
    families.gauge("process_open_fds", "Number of open file descriptors.", open);
    families.gauge("os_fd_used", "Number of open file descriptors.", open);
    if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        for name in ["process_max_fds", "os_fd_limit"] {
            families.gauge(
                name,
                "Maximum number of open file descriptors.",
                most as f64,
            );
        }
    }
    Ok(())
}
