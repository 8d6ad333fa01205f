//! Everything impure of khard: kernel, container runtimes, terminal, files.
pub mod bpf;
mod causes;
pub mod cgroup;
pub mod cli;
pub mod command;
pub mod config;
pub mod confinement;
pub mod doctor;
pub mod host;
pub mod input;
pub mod kernel;
pub mod output;
pub mod privilege;
pub mod profiles;
pub mod runtime;
pub mod session;
pub mod trace;
