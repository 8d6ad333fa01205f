//! What a recording holds, as names that a failed assertion shows well. Knows nothing of how it came about.

use std::collections::BTreeSet;

use khard_profile::{
    recording::{Abi, Phase, PhaseSet, Recording, SyscallKey},
    syscalls,
};

/// Names of calls; of another ABI than the native one with that before it, such as `ia32:getpid`.
pub type Calls = BTreeSet<String>;

/// A call's name.
pub fn name(key: SyscallKey) -> String {
    let name =
        syscalls::by_number(key.abi, key.nr).map_or_else(|| key.nr.to_string(), |call| call.name.to_owned());
    if key.abi == Abi::X86_64 { name } else { format!("{}:{name}", key.abi) }
}

/// The calls that were seen in a phase.
pub fn calls(recording: &Recording, phase: Phase) -> Calls {
    let in_phase = recording.syscalls().iter().filter(|(_, seen)| seen.in_phase(phase).is_some());
    in_phase.map(|(key, _)| name(*key)).collect()
}

/// The calls that were seen in any phase.
pub fn all_calls(recording: &Recording) -> Calls {
    recording.syscalls().keys().map(|key| name(*key)).collect()
}

/// The phases in which a native call was seen.
pub fn phases_of(recording: &Recording, call: &str) -> PhaseSet {
    let found = recording.syscalls().iter().find(|(key, _)| name(**key) == call);
    found.map_or(PhaseSet::EMPTY, |(_, seen)| seen.phases())
}

/// Names as a set.
pub fn set(names: &[&str]) -> Calls {
    names.iter().map(|&name| name.to_owned()).collect()
}
