//! The eBPF object that this binary carries.

/// The object's bytes, aligned for the ELF reader; empty in a build without eBPF.
pub(super) fn bytes() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/khard.bpf.o"))
}
