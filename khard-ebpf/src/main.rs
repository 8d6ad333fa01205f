//! khard's kernel programs.
//!
//! They keep, for each subject, the table of calls seen, and send a record the first time a call is seen in a
//! phase. They know no names: a subject is a slot, a cgroup an id.
//!
//! - [`programs`]: one thin entry for each attach point.
//! - [`subject`]: which slot a task belongs to; adoption of cgroups at birth.
//! - [`phase`]: which phase a process is in.
//! - [`access`]: what is asked of the kernel beside the call itself: its path, whether it is known, its record.
//! - [`learn`]: what happens when a call is not known yet.
//! - [`kernel`]: the only place that reads kernel structs.
//! - [`maps`], [`word`]: shared state and how it is touched.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod access;
mod kernel;
mod learn;
mod maps;
mod phase;
mod programs;
mod subject;
mod word;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
