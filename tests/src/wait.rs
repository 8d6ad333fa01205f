//! Waiting for conditions. Owns the limits: generous, since nothing is timed, only given up.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take: in guests, which are emulated, all is ten times slower.
pub fn limit() -> Duration {
    if in_guest() { Duration::from_mins(5) } else { Duration::from_mins(1) }
}

/// Whether this is a guest, where tests do the same with less.
pub fn in_guest() -> bool {
    std::env::var_os("KHARD_KERNEL").is_some_and(|kernel| kernel != "host")
}

/// Waits until something is there.
pub fn value<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(began.elapsed() < limit(), "not within {} s: {what}", limit().as_secs());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    value(what, || is_so().then_some(()));
}
