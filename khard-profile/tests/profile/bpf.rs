//! A profile as the kernel gets it: compiled by seccompiler, interpreted here, or installed for one thread.
//!
//! seccompiler has one action for all rules of a filter, so a profile becomes two filters. The kernel runs both and takes
//! the stricter answer (seccomp(2)).

use std::collections::BTreeMap;

use khard_profile::recording::Abi;
use khard_profile::syscalls;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use serde_json::Value;

/// What a filter says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    Errno(u32),
    Other(u32),
}

/// The filters of a profile's JSON for one native ABI, in the order in which they are installed.
pub(crate) fn compile(profile: &[u8], abi: Abi) -> [BpfProgram; 2] {
    let profile: Value = serde_json::from_slice(profile).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let default = u32::try_from(profile["defaultErrnoRet"].as_u64().unwrap()).unwrap();
    let (mut allowed, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for rule in profile["syscalls"].as_array().unwrap() {
        assert!(rule.get("args").is_none());
        let rules = match (rule["action"].as_str().unwrap(), rule.get("errnoRet").and_then(Value::as_u64)) {
            ("SCMP_ACT_ALLOW", None) => &mut allowed,
            ("SCMP_ACT_ERRNO", Some(1)) => &mut refused,
            other => panic!("unexpected rule {other:?}"),
        };
        for name in rule["names"].as_array().unwrap() {
            let call = syscalls::by_name(name.as_str().unwrap()).unwrap();
            if let Some(nr) = call.number(abi) {
                assert_eq!(rules.insert(i64::from(nr), Vec::new()), None, "{name} is named twice");
            }
        }
    }
    let either = allowed.keys().chain(refused.keys()).map(|nr| (*nr, Vec::new())).collect();
    let build = |rules, mismatch, on_match| -> BpfProgram {
        let arch = if abi == Abi::Aarch64 { TargetArch::aarch64 } else { TargetArch::x86_64 };
        SeccompFilter::new(rules, mismatch, on_match, arch).unwrap().try_into().unwrap()
    };
    [
        build(refused, SeccompAction::Allow, SeccompAction::Errno(1)),
        build(either, SeccompAction::Errno(default), SeccompAction::Allow),
    ]
}

/// The answer of all filters together to a call without arguments.
pub(crate) fn answer(filters: &[BpfProgram], abi: Abi, nr: u32) -> Answer {
    let audit_arch = match abi {
        Abi::X86_64 | Abi::X32 => 0xc000_003e,
        Abi::Ia32 => 0x4000_0003,
        Abi::Aarch64 => 0xc000_00b7,
    };
    // The stricter action has the lesser value, of which the upper half is the action (include/uapi/linux/seccomp.h).
    match filters
        .iter()
        .map(|filter| interpret(filter, audit_arch, nr))
        .min_by_key(|value| value >> 16)
        .unwrap()
    {
        0x7fff_0000 => Answer::Allow,
        value if value >> 16 == 5 => Answer::Errno(value & 0xffff),
        value => Answer::Other(value),
    }
}

/// Classic BPF, as far as seccompiler uses it (Documentation/networking/filter.rst of the kernel).
fn interpret(filter: &BpfProgram, audit_arch: u32, nr: u32) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = &filter[at];
        let jump = |condition: bool| usize::from(if condition { instruction.jt } else { instruction.jf });
        at += 1;
        match instruction.code {
            0x20 => {
                accumulator = match instruction.k {
                    0 => nr,
                    4 => audit_arch,
                    _ => 0,
                }
            }
            0x05 => at += instruction.k as usize,
            0x15 => at += jump(accumulator == instruction.k),
            0x25 => at += jump(accumulator > instruction.k),
            0x35 => at += jump(accumulator >= instruction.k),
            0x06 => return instruction.k,
            code => panic!("unexpected instruction {code:#x}"),
        }
    }
}
