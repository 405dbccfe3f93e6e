//! What clusters owe their clients while members, disks and networks fail and
//! while the membership changes.

mod budgets;
mod degraded;
mod demo;
mod descriptors;
mod first_start;
mod informers;
mod leader_lost;
mod leases;
mod members_under_load;
mod membership;
mod membership_crash;
mod reflector;
mod unplugged;
mod watch;
