//! A time in which no ordinary task takes this thread's CPU.
//!
//! While a task changes a map by bpf(2), the kernel skips perf tracepoint programs on that CPU (`bpf_disable_instrumentation()`,
//! kernel/bpf/syscall.c), whoever runs there: a task that preempts khard then makes calls unseen. Real-time priority lasts
//! for the few microseconds of the change. Knows nothing of maps.

/// Lasts as long as this lives. Where the kernel does not allow it, nothing changes: what is skipped is counted anyway.
pub(super) struct Unpreempted {
    before: Option<libc::c_int>,
}

impl Unpreempted {
    /// From now on, if wanted.
    pub(super) fn begin(wanted: bool) -> Self {
        if !wanted {
            return Self { before: None };
        }
        // SAFETY: no memory is passed; 0 is this thread.
        let before = unsafe { libc::sched_getscheduler(0) };
        let is_ordinary = before == libc::SCHED_OTHER || before == libc::SCHED_BATCH;
        Self { before: (is_ordinary && set(libc::SCHED_FIFO, 1)).then_some(before) }
    }
}

impl Drop for Unpreempted {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            set(before, 0);
        }
    }
}

fn set(policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter outlives the call; 0 is this thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_what_it_was_afterwards() {
        // SAFETY: as above.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let unpreempted = Unpreempted::begin(true);
        assert_eq!(policy() == libc::SCHED_FIFO, unpreempted.before.is_some());
        drop(unpreempted);
        assert_eq!(policy(), before);
        assert!(Unpreempted::begin(false).before.is_none());
    }
}
