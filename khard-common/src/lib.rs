//! What khard's kernel programs and user space agree on.
//!
//! Owns the wire types of the ring ([`record`]), the layout of a subject's slot and its syscall table
//! ([`slot`]), the phases' bits ([`phase`]), every size ([`limits`]) the node-wide counters ([`stats`]),
//! what notes of refused calls are worth ([`refusal`]) and the table of kernel struct fields ([`fields`]).
//! Knows nobody: neither a kernel helper nor a system call.
//!
//! Layout rules: `repr(C)`, no padding, fixed-width integers, little end first as in the kernel it came from.
#![no_std]

pub mod access;
pub mod calls;
pub mod fields;
pub mod limits;
pub mod phase;
pub mod record;
pub mod refusal;
pub mod slot;
pub mod stats;
