//! Everything impure of khard: kernel, container runtimes, terminal, files.
pub mod runtime;
