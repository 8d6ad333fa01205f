//! What a stream has told: every subject with what it did, put together to Recordings on request. The one place where a client
//! keeps facts; it must not know where the stream comes from, nor files, nor a terminal.
//!
//! A peer is believed in what it says and not in how much: beyond [`Limits`] the stream is broken.

mod observed;
pub mod replay;

use std::collections::BTreeMap;

use khard_profile::{
    Bytes,
    recording::{AccessKey, Ended, Host, Mark, Recording, RefusedCall, SyscallKey, UnknownRun},
};

pub use self::observed::Observed;
use crate::stream::{By, Message, Outcome, Rate, Stage, SubjectId};

/// A stream that no agent of khard's sends.
#[derive(Debug, thiserror::Error)]
pub enum BadStream {
    /// More than is accepted.
    #[error("the other side told of more than {limit} {unit}: the stream is broken")]
    TooMuch {
        /// Of what.
        unit: &'static str,
        /// As many are accepted.
        limit: usize,
    },
    /// A fact of nobody.
    #[error("the other side told of a subject {} that it had not named before: the stream is broken", .0.0)]
    UnknownSubject(SubjectId),
    /// Somebody who is another than before.
    #[error("the other side told of a subject {} that it is another than before: the stream is broken", .0.0)]
    OtherSubject(SubjectId),
}

/// What a client accepts of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Subjects, those that have ended included.
    pub subjects: usize,
    /// Different observations of a subject. The kernel programs send 120,000 accesses of one at most.
    pub observations: usize,
    /// Names and paths of all observations together.
    pub bytes: usize,
    /// Marks.
    pub marks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { subjects: 1 << 16, observations: 1 << 18, bytes: 2 << 30, marks: 1 << 12 }
    }
}

/// Something that was not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Somebody is recorded from now on.
    Began(SubjectId),
    /// Somebody is not recorded any more.
    Ended(SubjectId),
    /// A call.
    Call {
        /// By whom.
        subject: SubjectId,
        /// Which.
        key: SyscallKey,
        /// When in its life.
        stage: Stage,
        /// By which thread.
        by: Option<By>,
    },
    /// An access.
    Access {
        /// By whom.
        subject: SubjectId,
        /// What.
        key: AccessKey,
        /// When in its life.
        stage: Stage,
        /// By which thread.
        by: By,
    },
    /// A filter refused a call.
    Refused {
        /// By whom it was tried.
        subject: SubjectId,
        /// What.
        call: RefusedCall,
        /// When in its life.
        stage: Stage,
        /// By which thread.
        by: By,
    },
    /// A moment has a name.
    Mark(Moment),
    /// Nothing more comes.
    Over(Outcome),
}

/// A moment that somebody has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_BOOTTIME` of the agent's host.
    pub at_ns: u64,
    /// As it was given.
    pub label: Bytes,
}

/// Everything that a stream has told so far.
#[derive(Debug, Default)]
pub struct Subjects {
    limits: Limits,
    n_bytes: usize,
    host: Option<Host>,
    began_ns: u64,
    now_ns: u64,
    lost: u64,
    rate: Option<Rate>,
    observed: BTreeMap<SubjectId, Observed>,
    moments: Vec<Moment>,
    over: Option<Outcome>,
    n_messages: u64,
}

impl Subjects {
    /// Nothing yet.
    pub fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes a message in, and says what of it is news.
    pub fn take(&mut self, message: Message) -> Result<Option<News>, BadStream> {
        self.n_messages += 1;
        Ok(match message {
            Message::Ready { host, now_ns, .. } => {
                (self.host, self.began_ns, self.now_ns) = (Some(host), now_ns, now_ns);
                None
            }
            Message::Subject(state) => {
                let id = state.id;
                let Some(known) = self.observed.get_mut(&id) else {
                    within("subjects", self.observed.len() + 1, self.limits.subjects)?;
                    self.observed.insert(id, Observed::new(*state));
                    return Ok(Some(News::Began(id)));
                };
                if known.state().run.id != state.run.id {
                    return Err(BadStream::OtherSubject(id));
                }
                let has_ended = known.state().is_alive() && !state.is_alive();
                known.set_state(*state);
                has_ended.then_some(News::Ended(id))
            }
            Message::Call { subject, abi, nr, stage, by } => {
                let observed = self.observed.get_mut(&subject).ok_or(BadStream::UnknownSubject(subject))?;
                let key = SyscallKey { abi, nr };
                let is_new = observed.add_call(key, stage, by.clone());
                if is_new {
                    self.n_bytes += by.as_ref().map_or(0, size_of_by);
                    self.check(subject)?;
                }
                is_new.then_some(News::Call { subject, key, stage, by })
            }
            Message::Access { subject, key, stage, asked, by } => {
                let observed = self.observed.get_mut(&subject).ok_or(BadStream::UnknownSubject(subject))?;
                let n_bytes = observed::size_of_key(&key) + size_of_by(&by);
                let is_new = observed.add_access(&key, stage, asked, &by);
                if is_new {
                    self.n_bytes += n_bytes;
                    self.check(subject)?;
                }
                is_new.then_some(News::Access { subject, key, stage, by })
            }
            Message::Refused { subject, abi, nr, errno, stage, by } => {
                let observed = self.observed.get_mut(&subject).ok_or(BadStream::UnknownSubject(subject))?;
                let call = RefusedCall { key: SyscallKey { abi, nr }, errno };
                let is_new = observed.add_refused(call, stage, &by);
                if is_new {
                    self.n_bytes += size_of_by(&by);
                    self.check(subject)?;
                }
                is_new.then_some(News::Refused { subject, call, stage, by })
            }
            Message::Mark { at_ns, label } => {
                within("marks", self.moments.len() + 1, self.limits.marks)?;
                let moment = Moment { at_ns, label };
                self.moments.push(moment.clone());
                Some(News::Mark(moment))
            }
            Message::Pulse { now_ns, lost, rate } => {
                (self.now_ns, self.lost, self.rate) = (now_ns, lost, rate);
                None
            }
            Message::Over { outcome } => {
                self.over = Some(outcome.clone());
                Some(News::Over(outcome))
            }
        })
    }

    fn check(&self, subject: SubjectId) -> Result<(), BadStream> {
        let n = self.observed.get(&subject).map_or(0, Observed::len);
        within("observations of a subject", n, self.limits.observations)?;
        within("bytes of names", self.n_bytes, self.limits.bytes)
    }

    /// How many messages were taken in: with the same number, nothing is another.
    pub fn n_messages(&self) -> u64 {
        self.n_messages
    }

    /// The agent's machine, once it is ready.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// When recording began (`CLOCK_BOOTTIME` of the agent's host, as all times of a stream).
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// The agent's time when it was last heard of.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// System calls that may be lost by now, on the whole node.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How busy the subject is that somebody looks at.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Every subject, in the order of their coming.
    pub fn iter(&self) -> impl Iterator<Item = (SubjectId, &Observed)> {
        self.observed.iter().map(|(id, observed)| (*id, observed))
    }

    /// One subject.
    pub fn get(&self, id: SubjectId) -> Option<&Observed> {
        self.observed.get(&id)
    }

    /// Moments that have a name, in order.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// How the session ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.over.as_ref()
    }

    /// The recording of some instances of one subject. Those that are alive end with `if_alive`; with [`Ended::AgentLost`] nothing is
    /// proved of them.
    ///
    /// # Errors
    /// None that a stream can cause: [`UnknownRun`] would be a defect of khard.
    pub fn recording(&self, ids: &[SubjectId], if_alive: Ended) -> Result<Option<Recording>, UnknownRun> {
        let mut chosen = ids.iter().filter_map(|id| self.observed.get(id)).peekable();
        let Some(first) = chosen.peek() else { return Ok(None) };
        let mut recording = Recording::new(first.state().subject.clone());
        for observed in chosen {
            let run = observed.run(if_alive, self.now_ns, |start_ns, until_ns| {
                let of_run = |moment: &&Moment| (start_ns..=until_ns).contains(&moment.at_ns);
                self.moments
                    .iter()
                    .filter(of_run)
                    .map(|moment| Mark { time_ns: moment.at_ns - start_ns, label: moment.label.clone() })
                    .collect()
            });
            let id = run.id;
            recording.add_run(run);
            observed.write_to(&mut recording, id)?;
        }
        Ok(Some(recording))
    }
}

fn within(unit: &'static str, found: usize, limit: usize) -> Result<(), BadStream> {
    if found > limit { Err(BadStream::TooMuch { unit, limit }) } else { Ok(()) }
}

fn size_of_by(by: &By) -> usize {
    size_of::<By>() + by.comm.as_slice().len() + by.exe.as_slice().len()
}

#[cfg(test)]
mod tests;
