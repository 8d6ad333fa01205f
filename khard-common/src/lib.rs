//! What khard's kernel programs and user space agree on: wire types, limits, and the table of kernel fields.
#![no_std]
