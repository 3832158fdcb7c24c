//! The product as a user has it: the built `tandem`, a folder of its own, stock clients.
//!
//! Each test starts its own cloud ([`harness::Cloud`]) and ends by showing that nothing is left of it. Nothing sleeps:
//! a test follows the log and goes on when the line that it waits for is there. `cargo xtask test` gives the
//! environment that these tests need.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod backup;
#[cfg(test)]
mod backup_midway;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod buckets;
#[cfg(test)]
mod builds;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod code;
#[cfg(test)]
mod conventions;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_start;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod disk_full;
#[cfg(test)]
mod docker;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod entities;
mod escape;
#[cfg(test)]
mod example;
#[cfg(test)]
mod full_runs;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod held;
mod http_calls;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod locks;
mod long_logs;
#[cfg(test)]
mod loops;
#[cfg(test)]
mod many_containers;
#[cfg(test)]
mod many_videos;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod notifications;
#[cfg(test)]
mod old_logs;
#[cfg(test)]
mod ordered;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod pruning;
#[cfg(test)]
mod pulling;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod restoring;
#[cfg(test)]
mod results;
#[cfg(test)]
mod screen;
#[cfg(test)]
mod services;
#[cfg(test)]
mod spawner;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod timers;
#[cfg(test)]
mod topics;
mod volumes;
#[cfg(test)]
mod why;
mod workflow_ends;
mod workflow_full_disk;
mod workflow_load;
mod workflow_rewind;
mod workflow_triggers;
mod workflows;
