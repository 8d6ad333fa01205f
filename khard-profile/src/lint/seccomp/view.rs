//! Owns what a profile does to a call by name, over all ABIs that it lets in and whatever capabilities the container has. Knows
//! nothing about what is a mistake.

use std::collections::BTreeMap;

use crate::check::{Outcome, Profile, Rule, Target};
use crate::recording::{Abi, SyscallKey};
use crate::syscalls;

/// ENOSYS of every architecture here (include/uapi/asm-generic/errno.h).
pub(super) const ENOSYS: u32 = 38;

/// What can happen to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// It is made.
    Always,
    /// That depends on its arguments, on capabilities, or on the ABI.
    Sometimes,
    /// It is not, and this happens instead.
    Never(Outcome),
}

impl Open {
    pub(super) fn is_never(self) -> bool {
        matches!(self, Self::Never(_))
    }

    /// Refused as if the kernel had no such call: whoever tries it does without.
    pub(super) fn is_enosys(self) -> bool {
        matches!(self, Self::Never(Outcome { errno: ENOSYS, .. }))
    }
}

/// A profile on the hosts that it is for.
pub(super) struct View<'a> {
    pub(super) profile: &'a Profile,
    /// The ABI of the hosts' own programs: x86-64, unless the profile only knows others.
    pub(super) native: Abi,
    /// Those from which calls are let in.
    pub(super) abis: Vec<Abi>,
    target: Target,
    open: BTreeMap<(Abi, &'static str), Open>,
}

impl<'a> View<'a> {
    pub(super) fn new(profile: &'a Profile) -> Self {
        let on = |native: Abi| {
            let target = Target::native(native);
            Abi::ALL.into_iter().filter(move |abi| profile.lists(*abi, &target))
        };
        let natives = [Abi::X86_64, Abi::Aarch64, Abi::Ia32];
        let native = natives.into_iter().find(|native| on(*native).any(|abi| abi == *native));
        let native = native.unwrap_or(Abi::X86_64);
        // The native one is always let in.
        let abis = Abi::ALL.into_iter().filter(|abi| *abi == native || on(native).any(|other| other == *abi));
        let abis = abis.filter(|abi| (native == Abi::Aarch64) == (*abi == Abi::Aarch64));
        let abis: Vec<Abi> = abis.collect();
        let target = Target::native(native);
        let calls = abis.iter().flat_map(|abi| syscalls::of_abi(*abi).map(move |call| (*abi, call.name)));
        let open =
            calls.filter_map(|(abi, name)| Some(((abi, name), open(profile, &target, key(abi, name)?))));
        let open = open.collect();
        Self { profile, native, abis, target, open }
    }

    /// True if what no entry names is allowed.
    pub(super) fn is_deny_list(&self) -> bool {
        self.profile.default.is_allowed()
    }

    /// What happens to a call; `None`: no ABI that is let in has it.
    pub(super) fn open(&self, name: &str) -> Option<Open> {
        self.abis.iter().filter_map(|abi| self.open_in(*abi, name)).reduce(|one, other| match (one, other) {
            (one, other) if one == other => one,
            (Open::Always, _) | (_, Open::Always) => Open::Always,
            (Open::Never(one), Open::Never(_)) => Open::Never(one),
            _ => Open::Sometimes,
        })
    }

    /// The same for the hosts' own programs alone.
    pub(super) fn native_open(&self, name: &str) -> Option<Open> {
        self.open_in(self.native, name)
    }

    pub(super) fn open_in(&self, abi: Abi, name: &str) -> Option<Open> {
        self.open.get(&(abi, syscalls::by_name(name)?.name)).copied()
    }

    /// True if runc, and runc alone, answers ENOSYS to a call that no entry names.
    pub(super) fn runc_answers_enosys(&self, name: &str) -> bool {
        key(self.native, name).is_some_and(|key| self.profile.runc_answers_enosys(key, &self.target))
    }

    /// The entries that name a call, with their places.
    pub(super) fn entries<'b>(&'b self, name: &'b str) -> impl Iterator<Item = (usize, &'a Rule)> + 'b {
        let rules = self.profile.rules.iter().enumerate();
        rules.filter(move |(_, rule)| rule.names.contains(name))
    }
}

fn key(abi: Abi, name: &str) -> Option<SyscallKey> {
    Some(SyscallKey { abi, nr: syscalls::by_name(name)?.number(abi)? })
}

fn open(profile: &Profile, target: &Target, key: SyscallKey) -> Open {
    let branches = profile.branches(key, target, None);
    if branches.iter().all(|branch| branch.outcome.is_allowed()) {
        return Open::Always;
    }
    let certain = branches.first().filter(|_| branches.iter().all(|branch| !branch.outcome.is_allowed()));
    certain.map_or(Open::Sometimes, |branch| Open::Never(branch.outcome))
}
