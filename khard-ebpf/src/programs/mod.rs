//! One thin entry for each attach point. The table of which is attached where is user space's.

mod call;
mod call_end;
mod cgroup;
mod empty;
mod hook;
mod process;
mod refused;
mod syscall;
