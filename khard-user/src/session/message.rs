//! What a session tells its clients. Owns the words of the stream; names in it come from workloads and are
//! escaped by whoever shows them.

use khard_common::record::{SyscallRecord, until_nul};
use khard_profile::{
    Bytes,
    recording::{Abi, Ended, Phase},
};
use serde::Serialize;

use super::{instance::InstanceId, seen::abi_of_table};

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// Someone is recorded from now on.
    SubjectAdded {
        /// Who.
        subject: InstanceId,
        /// For people.
        name: String,
        /// False: it ran before.
        from_first_instruction: bool,
    },
    /// A call was made for the first time in a phase.
    FirstSighting {
        /// By whom.
        subject: InstanceId,
        /// In which ABI.
        abi: Abi,
        /// The number, for x32 without its bit.
        nr: u32,
        /// In which phase.
        phase: Phase,
        /// The thread's name.
        comm: Bytes,
        /// The executable's file name.
        exe: Bytes,
        /// Process id on the host.
        tgid: u32,
    },
    /// Someone is not recorded any more.
    SubjectEnded {
        /// Who.
        subject: InstanceId,
        /// Why.
        why: Ended,
    },
}

impl Message {
    pub(super) fn first_sighting(subject: InstanceId, call: &SyscallRecord) -> Self {
        let bit = u8::try_from(call.header.phase.trailing_zeros()).unwrap_or(u8::MAX);
        Self::FirstSighting {
            subject,
            abi: abi_of_table(call.abi),
            nr: call.nr & !khard_common::slot::X32_BIT,
            phase: Phase::from_bit(bit).unwrap_or(Phase::Workload),
            comm: until_nul(&call.comm).into(),
            exe: until_nul(&call.exe).into(),
            tgid: call.tgid,
        }
    }
}
