//! The Container Runtime Interface, version 1: calls with a time limit and told-apart failures, and what the answers mean.
//!
//! Owns the wire; it must not know what khard asks for or why. Nothing outside `runtime` sees a CRI message, except a
//! program that plays the kubelet.
pub mod connection;
mod convert;
mod details;
#[cfg(test)]
pub(super) mod fake;
mod questions;

#[rustfmt::skip]
#[expect(
    missing_docs, clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason,
    reason = "made by a generator from the definition, which has its own documentation and style"
)]
pub mod generated;
