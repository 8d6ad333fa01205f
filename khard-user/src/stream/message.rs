//! The words of the stream. Names in them are chosen by workloads: whoever shows them escapes them.
//!
//! An agent tells each fact once, when it is first known, and what changes (who a subject is, how far it can be trusted) as the
//! whole that it is then. So a client needs no order but that of the stream, and keeps what it is told.

use std::collections::BTreeMap;

use khard_common::phase;
use khard_profile::{
    Bytes,
    recording::{Abi, AccessKey, Ended, Host, Phase, Run, Subject},
};
use serde::{Deserialize, Serialize};

use super::Selector;
use crate::bpf::AttachChoice;

/// Who is recorded: one life of a subject (a container's attempt, a command's run). Numbered by the agent, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubjectId(pub u32);

/// From the agent to the client. [`Message::Ready`] is the first, [`Message::Over`] the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Message {
    /// The programs are attached, and what was asked for is recorded from now on.
    Ready {
        /// The agent's version, such as `0.1.0`.
        khard: String,
        /// Its machine.
        host: Host,
        /// `CLOCK_BOOTTIME` there.
        now_ns: u64,
    },
    /// Somebody is recorded, or is known better than before.
    Subject(Box<SubjectState>),
    /// A system call was made for the first time in a stage of a subject's life.
    Call {
        /// By whom.
        subject: SubjectId,
        /// In which ABI.
        abi: Abi,
        /// Its number, for x32 without its bit.
        nr: u32,
        /// In which stage.
        stage: Stage,
        /// By which thread. `None`: the record of it is lost, or still to come, and then the same call is told again.
        by: Option<By>,
    },
    /// Something was asked of the kernel for the first time in a stage of a subject's life. It can be told twice.
    Access {
        /// By whom.
        subject: SubjectId,
        /// What.
        key: AccessKey,
        /// In which stage.
        stage: Stage,
        /// Whether it counts as refused only until the same is told as granted: its outcome comes later.
        asked: bool,
        /// By which thread.
        by: By,
    },
    /// A seccomp filter refused a system call for the first time in a stage of a subject's life. It can be told twice.
    Refused {
        /// By whom it was tried.
        subject: SubjectId,
        /// In which ABI.
        abi: Abi,
        /// Its number, for x32 without its bit.
        nr: u32,
        /// The filter's answer, such as 1 for EPERM.
        errno: u16,
        /// In which stage.
        stage: Stage,
        /// By which thread.
        by: By,
    },
    /// A moment that somebody has named.
    Mark {
        /// `CLOCK_BOOTTIME`.
        at_ns: u64,
        /// As it was given.
        label: Bytes,
    },
    /// The agent is there; about once a second.
    Pulse {
        /// `CLOCK_BOOTTIME`.
        now_ns: u64,
        /// System calls that may be lost by now, on the whole node, subjects that found no place included.
        lost: u64,
        /// How busy the subject is that somebody looks at.
        rate: Option<Rate>,
    },
    /// Nothing more comes.
    Over {
        /// How it ended.
        outcome: Outcome,
    },
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// In order; why for those that were alive.
    Ended(Ended),
    /// By a failure of the agent's, in words. What was told until then is what is known.
    Failed(String),
    /// The user does not want what was recorded.
    Abandoned,
}

/// Everything about a subject but what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectState {
    /// Its number.
    pub id: SubjectId,
    /// For people: `web/nginx`, `ls`.
    pub label: String,
    /// The logical subject.
    pub subject: Subject,
    /// The run as it stands: of one that is alive, it ends with [`Ended::Checkpoint`].
    pub run: Run,
    /// Where what was seen in each stage belongs. It can change until the subject has ended.
    pub placement: Placement,
}

impl SubjectState {
    /// Whether it is recorded still.
    pub fn is_alive(&self) -> bool {
        self.run.ended == Ended::Checkpoint
    }
}

/// How often a subject makes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Who.
    pub subject: SubjectId,
    /// In the last second.
    pub calls_per_s: u64,
}

/// Which thread did something first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// Process id on the agent's host.
    pub tgid: u32,
    /// Thread id there.
    pub tid: u32,
    /// The thread's name.
    pub comm: Bytes,
    /// The file name of its executable, without the path.
    pub exe: Bytes,
}

/// A stage of a subject's life as the kernel programs tell it: a [`Phase`], or one that is not decided yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// [`Phase::Runtime`].
    Runtime,
    /// [`Phase::RuntimeFiltered`].
    RuntimeFiltered,
    /// [`Phase::Workload`].
    Workload,
    /// [`Phase::Joining`].
    Joining,
    /// [`Phase::JoiningFiltered`].
    JoiningFiltered,
    /// [`Phase::Joiner`].
    Joiner,
    /// A young process that was neither started in the subject nor told to have been moved in.
    Untold,
}

impl Stage {
    /// Every stage, in the order of the kernel's bits.
    pub const ALL: [Self; 7] = [
        Self::Runtime,
        Self::RuntimeFiltered,
        Self::Workload,
        Self::Joining,
        Self::JoiningFiltered,
        Self::Joiner,
        Self::Untold,
    ];

    /// Of a byte with one bit; `None` for any other.
    pub fn from_mask(mask: u8) -> Option<Self> {
        let is_one = mask.is_power_of_two() && mask & (phase::ALL | phase::UNTOLD) != 0;
        is_one.then(|| Self::ALL[mask.trailing_zeros() as usize])
    }

    /// Its bit.
    pub fn mask(self) -> u8 {
        1 << self as u8
    }

    fn phase(self) -> Phase {
        Phase::from_bit(self as u8).unwrap_or(Phase::Workload)
    }
}

/// Which phase each stage counts as; those that are not named are their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Placement(BTreeMap<Stage, Phase>);

impl Placement {
    /// Asks for each stage.
    pub fn new(of: impl Fn(Stage) -> Phase) -> Self {
        let all = Stage::ALL.into_iter().map(|stage| (stage, of(stage)));
        Self(all.filter(|(stage, phase)| stage.phase() != *phase || *stage == Stage::Untold).collect())
    }

    /// The phase of a stage.
    pub fn of(&self, stage: Stage) -> Phase {
        self.0.get(&stage).copied().unwrap_or_else(|| stage.phase())
    }
}

/// From the client to the agent. [`Command::Record`] is the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Begin.
    Record(Box<Request>),
    /// Name this moment.
    Mark {
        /// How it is called.
        label: Bytes,
    },
    /// Count the calls of this subject, and of no other.
    Look {
        /// Who; nobody.
        subject: Option<SubjectId>,
    },
    /// End recording, in order.
    End {
        /// Why.
        why: Ended,
    },
}

/// What is to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Cgroups, by path.
    pub cgroups: Vec<Bytes>,
    /// Pods and containers.
    pub targets: Vec<Target>,
    /// Targets may come later.
    pub wait: bool,
    /// The runtime's socket.
    pub runtime_endpoint: Option<String>,
    /// By what means accesses are seen.
    pub attach: AttachChoice,
    /// Attempts that failed are told from what was done, at the cost of a program at each call's end.
    pub outcomes: bool,
}

/// A target that a container runtime knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A pod's containers, or one of them.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Only the container of this name.
        container: Option<String>,
    },
    /// The containers of all pods with these labels, those that come later too, or the one of this name in each.
    Labelled {
        /// Their namespace.
        namespace: String,
        /// Which labels.
        selector: Selector,
        /// Only the container of this name.
        container: Option<String>,
    },
    /// One container, by id, start of an id, or name.
    Container(String),
    /// Every container on the node, those that come later too.
    Every,
    /// Every container that starts from now on, until the command has ended.
    New,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_a_bit_of_the_kernels_table() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_mask(stage.mask()), Some(stage));
        }
        assert_eq!(Stage::Workload.mask(), phase::WORKLOAD);
        assert_eq!(Stage::Untold.mask(), phase::UNTOLD);
        assert_eq!([0, 3, phase::RECORD_OWED].map(Stage::from_mask), [None; 3]);
    }

    #[test]
    fn a_placement_says_what_is_not_usual() {
        let usual = Placement::new(Stage::phase);
        assert_eq!(serde_json::to_string(&usual).unwrap(), r#"{"untold":"workload"}"#);
        let no_border = Placement::new(|stage| match stage {
            Stage::Runtime => Phase::Workload,
            Stage::Untold => Phase::Joining,
            other => other.phase(),
        });
        let text = serde_json::to_string(&no_border).unwrap();
        assert_eq!(text, r#"{"runtime":"workload","untold":"joining"}"#);
        let read: Placement = serde_json::from_str(&text).unwrap();
        assert_eq!((read.of(Stage::Runtime), read.of(Stage::Joiner)), (Phase::Workload, Phase::Joiner));
    }
}
