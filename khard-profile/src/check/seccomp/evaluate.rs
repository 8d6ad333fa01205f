//! Owns what a profile does to one call on one host: the semantics of libseccomp and of the runtimes that drive it.
//!
//! From libseccomp 2.5.4 (`src/db.c`, `src/gen_bpf.c`, `src/syscalls.c`), runc 1.1.5 (libcontainer/seccomp), crun 1.8.1
//! (src/libcrun/seccomp.c), Docker 20.10 (profiles/seccomp) and containers/common 0.50 (pkg/seccomp):
//! - The host's own architecture is always listed; a call in one that is not kills the thread.
//! - A rule whose outcome is that of the default action is skipped.
//! - The first rule without conditions decides, also over conditional ones before it.
//! - Conditions of a rule must all hold; but if two are on the same argument, each of them alone is enough.
//! - On 32-bit x86 the names of socket and System V IPC calls also stand for `socketcall` and `ipc` with that number.

use std::collections::BTreeSet;

use super::profile::{Condition, Filter, Op, Outcome, Profile, Rule, kernel_version};
use crate::recording::{Abi, Host, SyscallKey};
use crate::seccomp::{Action, Arch};
use crate::syscalls;

/// Where a profile is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    native: Option<Abi>,
    kernel: Option<(u32, u32)>,
}

impl Target {
    /// A host of an ABI, with a kernel that is not known.
    pub(crate) fn native(abi: Abi) -> Self {
        Self { native: Some(abi), kernel: None }
    }

    pub(crate) fn of(host: &Host) -> Self {
        Self { native: Abi::native_of(&host.machine), kernel: kernel_version(&host.kernel) }
    }

    /// The name in `includes` and `excludes` (Docker: goToNative; the same in containers/common).
    fn go_arch(&self) -> &'static str {
        match self.native {
            Some(Abi::X86_64) => "amd64",
            Some(Abi::Ia32) => "x86",
            Some(Abi::X32) => "x32",
            Some(Abi::Aarch64) => "arm64",
            None => "",
        }
    }
}

/// One thing that can happen to a call, and when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Branch {
    pub(crate) outcome: Outcome,
    /// The place of the rule, or what else decides.
    pub(crate) by: String,
    /// In words; empty: always.
    pub(crate) when: Vec<String>,
}

/// One thing that can happen to a call, whatever rule it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) outcome: Outcome,
    /// All of these hold, in words; none: whenever no other way is taken.
    pub(crate) when: BTreeSet<String>,
}

/// With more different capabilities than this in the rules of one call, not every combination is tried.
const MAX_CAPS: usize = 12;

impl Profile {
    /// Whether a call is made on this host whatever its arguments, and the container's capabilities, are.
    pub fn allows(&self, key: SyscallKey, host: &Host) -> bool {
        self.branches(key, &Target::of(host), None).iter().all(|branch| branch.outcome.is_allowed())
    }

    /// Everything that can happen to a call. One branch: it is certain.
    pub(crate) fn branches(
        &self,
        key: SyscallKey,
        target: &Target,
        caps: Option<&BTreeSet<String>>,
    ) -> BTreeSet<Branch> {
        let name = syscalls::by_number(key.abi, key.nr).map(|call| call.name);
        self.branches_of(name, key.abi, target, caps, &self.by_default(key, target))
    }

    /// The same by name; `None` is a call that no rule can name.
    fn branches_of(
        &self,
        name: Option<&str>,
        abi: Abi,
        target: &Target,
        caps: Option<&BTreeSet<String>>,
        by_default: &Branch,
    ) -> BTreeSet<Branch> {
        if Some(abi) != target.native && !self.lists(abi, target) {
            let outcome = Outcome { action: Action::KillThread, errno: 0 };
            let by = format!("{} is not among the architectures", Arch::from(abi));
            return BTreeSet::from([Branch { outcome, by, when: Vec::new() }]);
        }
        let relevant: Vec<(&Rule, Vec<Vec<Condition>>)> = self
            .rules
            .iter()
            .filter(|rule| rule.outcome != self.default && applies_to(rule, target))
            .filter_map(|rule| Some((rule, ways(rule, name?, abi)?)))
            .collect();
        let asked: BTreeSet<&str> = relevant
            .iter()
            .flat_map(|(rule, _)| rule.includes.caps.iter().chain(&rule.excludes.caps))
            .map(String::as_str)
            .collect();
        let asked: Vec<&str> = asked.into_iter().filter(|_| caps.is_none()).collect();
        if asked.len() > MAX_CAPS {
            let each = relevant.iter().flat_map(|(rule, ways)| ways.iter().map(|way| branch(rule, way)));
            return each.chain([by_default.clone()]).collect();
        }
        let mut branches = BTreeSet::new();
        for held in 0_u32..1 << asked.len() {
            let holds = |cap: &str| match caps {
                Some(caps) => caps.contains(cap),
                None => {
                    asked.iter().position(|name| *name == cap).is_some_and(|place| held >> place & 1 == 1)
                }
            };
            let has_caps = |rule: &Rule| {
                rule.includes.caps.iter().all(|cap| holds(cap))
                    && !rule.excludes.caps.iter().any(|cap| holds(cap))
            };
            let rules = relevant.iter().filter(|(rule, _)| has_caps(rule));
            if let Some((rule, _)) = rules.clone().find(|(_, ways)| ways.iter().any(Vec::is_empty)) {
                branches.insert(branch(rule, &[]));
            } else {
                branches.extend(rules.flat_map(|(rule, ways)| ways.iter().map(|way| branch(rule, way))));
                branches.insert(by_default.clone());
            }
        }
        branches
    }

    /// What can happen to a call of this name and ABI on a host, as a set that does not depend on how rules are cut up. Capabilities are
    /// conditions in it; what runc alone does is not.
    pub(crate) fn ways(&self, name: &str, abi: Abi, native: Abi, kernel: (u32, u32)) -> BTreeSet<Way> {
        let target = Target { native: Some(native), kernel: Some(kernel) };
        let by_default = Branch { outcome: self.default, by: String::new(), when: Vec::new() };
        let branches = self.branches_of(Some(name), abi, &target, None, &by_default);
        let way = |branch: Branch| Way { outcome: branch.outcome, when: branch.when.into_iter().collect() };
        branches.into_iter().map(way).collect()
    }

    /// The kernels' versions that rules ask for.
    pub(crate) fn kernels(&self) -> impl Iterator<Item = (u32, u32)> {
        let filters = self.rules.iter().flat_map(|rule| [&rule.includes, &rule.excludes]);
        filters.filter_map(|filter| filter.min_kernel)
    }

    /// Whether calls of an ABI are let in on hosts of one architecture.
    pub(crate) fn lets_in(&self, abi: Abi, native: Abi) -> bool {
        abi == native || self.lists(abi, &Target { native: Some(native), kernel: None })
    }

    /// The architectures that are listed, as profiles spell them.
    pub(crate) fn listed(&self) -> BTreeSet<&str> {
        let from_map = self.arch_map.iter().flat_map(|(arch, with_it)| std::iter::once(arch).chain(with_it));
        self.architectures.iter().chain(from_map).map(String::as_str).collect()
    }

    fn by_default(&self, key: SyscallKey, target: &Target) -> Branch {
        let by = if self.runc_answers_enosys(key, target) {
            "the default action; runc answers ENOSYS, since the number is above all in the profile"
        } else {
            "the default action"
        };
        Branch { outcome: self.default, by: by.to_owned(), when: Vec::new() }
    }

    /// Whether the profile itself lists an ABI.
    pub(crate) fn lists(&self, abi: Abi, target: &Target) -> bool {
        let of_host = target.native.map(|native| Arch::from(native).to_string());
        let entry = self.arch_map.iter().find(|(arch, _)| Some(arch) == of_host.as_ref());
        let from_map = entry.into_iter().flat_map(|(arch, with_it)| std::iter::once(arch).chain(with_it));
        let name = Arch::from(abi).to_string();
        self.architectures.iter().chain(from_map).any(|arch| *arch == name)
    }

    /// runc puts a filter before the profile's (libcontainer/seccomp/patchbpf): numbers above the largest that the profile
    /// names return ENOSYS, unless the default action lets calls through or already does that. Only listed architectures
    /// have it.
    pub(crate) fn runc_answers_enosys(&self, key: SyscallKey, target: &Target) -> bool {
        let numbers = self.rules.iter().flat_map(|rule| &rule.names);
        let largest = numbers.filter_map(|name| syscalls::by_name(name)?.number(key.abi)).max();
        !self.default.is_allowed()
            && self.default.action != Action::Trace
            && self.default != (Outcome { action: Action::Errno, errno: 38 })
            && largest.is_some_and(|largest| key.nr > largest)
            && self.lists(key.abi, target)
    }
}

/// A rule's part in what can happen: its own conditions and those of one way in which it matches.
fn branch(rule: &Rule, conditions: &[Condition]) -> Branch {
    let mut when = filters_in_words(rule);
    when.extend(conditions.iter().map(Condition::to_string));
    Branch { outcome: rule.outcome, by: rule.place.clone(), when }
}

/// Whether the rule is there on this host, capabilities aside.
fn applies_to(rule: &Rule, target: &Target) -> bool {
    let new_enough =
        |filter: &Filter| filter.min_kernel.map(|least| target.kernel.is_some_and(|kernel| kernel >= least));
    let on_arch = |filter: &Filter| filter.arches.iter().any(|arch| arch == target.go_arch());
    (rule.includes.arches.is_empty() || on_arch(&rule.includes))
        && !on_arch(&rule.excludes)
        && new_enough(&rule.includes) != Some(false)
        && new_enough(&rule.excludes) != Some(true)
}

/// The ways in which a rule matches a call: each is a set of conditions that must all hold. `None`: the rule is not about it.
fn ways(rule: &Rule, name: &str, abi: Abi) -> Option<Vec<Vec<Condition>>> {
    let repeated = |condition: &Condition| {
        rule.conditions.iter().filter(|other| other.index == condition.index).count() > 1
    };
    let own: Vec<Vec<Condition>> = if rule.conditions.iter().any(repeated) {
        rule.conditions.iter().map(|condition| vec![*condition]).collect()
    } else {
        vec![rule.conditions.clone()]
    };
    if rule.names.contains(name) {
        return Some(own);
    }
    if abi != Abi::Ia32 {
        return None;
    }
    let multiplexed = MULTIPLEXED.iter().filter(|(via, part, _)| *via == name && rule.names.contains(*part));
    let ways: Vec<Vec<Condition>> = multiplexed
        .flat_map(|(_, _, number)| {
            own.iter().map(|conditions| {
                let part = Condition { index: 0, op: Op::Eq, value: *number, value_two: 0 };
                let others = conditions.iter().copied().filter(|condition| condition.index != 0);
                std::iter::once(part).chain(others).collect()
            })
        })
        .collect();
    (!ways.is_empty()).then_some(ways)
}

fn filters_in_words(rule: &Rule) -> Vec<String> {
    let with = rule.includes.caps.iter().map(|cap| format!("the container has {cap}"));
    let without = rule.excludes.caps.iter().map(|cap| format!("the container does not have {cap}"));
    with.chain(without).collect()
}

/// `SYS_*` of include/uapi/linux/net.h and the call numbers of include/uapi/linux/ipc.h.
#[rustfmt::skip]
const MULTIPLEXED: [(&str, &str, u64); 32] = [
    ("socketcall", "socket", 1), ("socketcall", "bind", 2), ("socketcall", "connect", 3), ("socketcall", "listen", 4),
    ("socketcall", "accept", 5), ("socketcall", "getsockname", 6), ("socketcall", "getpeername", 7),
    ("socketcall", "socketpair", 8), ("socketcall", "send", 9), ("socketcall", "recv", 10), ("socketcall", "sendto", 11),
    ("socketcall", "recvfrom", 12), ("socketcall", "shutdown", 13), ("socketcall", "setsockopt", 14),
    ("socketcall", "getsockopt", 15), ("socketcall", "sendmsg", 16), ("socketcall", "recvmsg", 17),
    ("socketcall", "accept4", 18), ("socketcall", "recvmmsg", 19), ("socketcall", "sendmmsg", 20),
    ("ipc", "semop", 1), ("ipc", "semget", 2), ("ipc", "semctl", 3), ("ipc", "semtimedop", 4), ("ipc", "msgsnd", 11),
    ("ipc", "msgrcv", 12), ("ipc", "msgget", 13), ("ipc", "msgctl", 14), ("ipc", "shmat", 21), ("ipc", "shmdt", 22),
    ("ipc", "shmget", 23), ("ipc", "shmctl", 24),
];
