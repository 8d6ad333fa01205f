//! Docker's API, as Docker Engine and Podman's service speak it: HTTP over a unix socket, calls with limits in time and size, and
//! what the answers mean.
//!
//! Owns that wire. It must not know what khard asks for or why.
pub(crate) mod connection;
mod details;
#[cfg(test)]
pub(super) mod fake;
mod questions;
pub(super) mod wire;
