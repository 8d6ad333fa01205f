//! Owns seccomp profiles of any maker as data: OCI's form, Docker's and Podman's. Knows nothing about recordings.
//!
//! Runtimes ignore keys that they do not know; here an unknown key is an error, since it may change what a rule means.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::errno;
use crate::seccomp::Action;

/// Larger files are no profiles: Docker's default has 14 KiB.
const MAX_BYTES: usize = 4 << 20;

/// The keys of each kind of object, in OCI's, Docker's and Podman's form together.
#[rustfmt::skip]
pub(crate) mod keys {
    pub(crate) const PROFILE: &[&str] = &[
        "defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "syscalls", "flags", "listenerPath",
        "listenerMetadata",
    ];
    pub(crate) const ENTRY: &[&str] =
        &["name", "names", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"];
    pub(crate) const CONDITION: &[&str] = &["index", "value", "valueTwo", "op"];
    pub(crate) const FILTER: &[&str] = &["caps", "arches", "minKernel"];
    pub(crate) const ARCH_MAP: &[&str] = &["architecture", "subArchitectures"];
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(crate) default: Outcome,
    pub(crate) architectures: Vec<String>,
    /// Docker's form: the host's own architecture → the ones that come with it.
    pub(crate) arch_map: Vec<(String, Vec<String>)>,
    pub(crate) rules: Vec<Rule>,
}

/// One entry of `syscalls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Where it stands, such as `syscalls[3]`.
    pub(crate) place: String,
    pub(crate) names: BTreeSet<String>,
    pub(crate) outcome: Outcome,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) includes: Filter,
    pub(crate) excludes: Filter,
}

/// When a rule is part of the profile at all (Docker, Podman).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) caps: Vec<String>,
    pub(crate) arches: Vec<String>,
    pub(crate) min_kernel: Option<(u32, u32)>,
}

impl Filter {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    /// The action.
    pub action: Action,
    /// The errno that comes with [`Action::Errno`] and [`Action::Trace`], as it takes effect; 0 for others.
    pub errno: u32,
}

impl Outcome {
    /// True if the call is made.
    pub fn is_allowed(self) -> bool {
        matches!(self.action, Action::Allow | Action::Log)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Allow => f.write_str("allowed"),
            Action::Log => f.write_str("allowed and logged"),
            Action::Errno => match errno::name(self.errno) {
                Some(name) => f.write_str(name),
                None => write!(f, "errno {}", self.errno),
            },
            Action::Trace => f.write_str("left to a tracer (ENOSYS without one)"),
            Action::Notify => f.write_str("left to a supervisor"),
            Action::Trap => f.write_str("SIGSYS"),
            Action::KillThread => f.write_str("kills the thread"),
            Action::KillProcess => f.write_str("kills the process"),
        }
    }
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    pub(crate) op: Op,
    pub(crate) value: u64,
    pub(crate) value_two: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.op {
            Op::Ne => "!=",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Eq => "==",
            Op::Ge => ">=",
            Op::Gt => ">",
            Op::MaskedEq => {
                return write!(f, "arg{} & {:#x} == {:#x}", self.index, self.value, self.value_two);
            }
        };
        write!(f, "arg{} {sign} {:#x}", self.index, self.value)
    }
}

/// Why a profile cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is too large.
    #[error("the seccomp profile has {found} bytes, more than {limit}: is it a profile?")]
    TooLarge {
        /// Its size.
        found: usize,
        /// The most that is read.
        limit: usize,
    },
    /// It is no JSON.
    #[error("the seccomp profile is no JSON")]
    NotJson(#[source] serde_json::Error),
    /// Something in it is not as it should be.
    #[error("the seccomp profile cannot be used: {place}: {problem}")]
    Bad {
        /// Where, such as `syscalls[3].args[0].op`.
        place: String,
        /// What.
        problem: String,
    },
}

impl Profile {
    /// True of a text that begins as JSON does, and no AppArmor profile can: a list too, which is no profile.
    pub fn is_json(text: &[u8]) -> bool {
        matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
    }

    /// A recording stands beside its profiles and is JSON too: it is no profile with unknown keys.
    pub(crate) fn is_no_recording(value: &Value) -> Result<(), ProfileError> {
        if value.get("khard_recording").is_none() {
            return Ok(());
        }
        let problem = "this is a recording: name the seccomp.json that was made of it";
        Err(ProfileError::Bad { place: "the profile".to_owned(), problem: problem.to_owned() })
    }

    /// Reads a profile in OCI's, Docker's or Podman's form.
    pub fn from_json(json: &[u8]) -> Result<Self, ProfileError> {
        if json.len() > MAX_BYTES {
            return Err(ProfileError::TooLarge { found: json.len(), limit: MAX_BYTES });
        }
        Self::from_value(&serde_json::from_slice(json).map_err(ProfileError::NotJson)?)
    }

    /// The same of JSON that is read already.
    pub(crate) fn from_value(value: &Value) -> Result<Self, ProfileError> {
        Self::is_no_recording(value)?;
        let top = At { value, place: String::new() };
        let object = top.object(keys::PROFILE)?;
        let default_action = top
            .get(object, "defaultAction")
            .ok_or_else(|| top.bad("there is no defaultAction".to_owned()))?;
        let profile = Self {
            default: outcome(
                &default_action,
                top.get(object, "defaultErrnoRet"),
                top.get(object, "defaultErrno"),
            )?,
            architectures: strings(top.get(object, "architectures"))?,
            arch_map: each(top.get(object, "archMap"), &arch_map_entry)?,
            rules: each(top.get(object, "syscalls"), &rule)?,
        };
        for (place, architecture) in profile.architectures.iter().enumerate() {
            known_architecture(architecture, || format!("architectures[{place}]"))?;
        }
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err(
                top.bad("there is both architectures and archMap, and Docker refuses that".to_owned())
            );
        }
        Ok(profile)
    }
}

/// A value and where it stands.
struct At<'a> {
    value: &'a Value,
    place: String,
}

impl<'a> At<'a> {
    fn bad(&self, problem: String) -> ProfileError {
        let place = if self.place.is_empty() { "the profile".to_owned() } else { self.place.clone() };
        ProfileError::Bad { place, problem }
    }

    fn object(&self, known: &[&str]) -> Result<&'a Map<String, Value>, ProfileError> {
        let object = self.value.as_object().ok_or_else(|| self.bad("expected an object".to_owned()))?;
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.bad(format!("unknown key {key:?}"))),
            None => Ok(object),
        }
    }

    /// A key's value. `null` is as good as absent: Go writes it for empty lists.
    fn get(&self, object: &'a Map<String, Value>, key: &str) -> Option<At<'a>> {
        let value = object.get(key).filter(|value| !value.is_null())?;
        let place = if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) };
        Some(At { value, place })
    }

    fn string(&self) -> Result<&'a str, ProfileError> {
        self.value.as_str().ok_or_else(|| self.bad("expected a string".to_owned()))
    }

    fn number<T: TryFrom<u64>>(&self) -> Result<T, ProfileError> {
        let number = self.value.as_u64().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.bad("expected a number from 0 that fits".to_owned()))
    }
}

fn each<T>(
    list: Option<At<'_>>,
    read: &dyn Fn(&At<'_>) -> Result<T, ProfileError>,
) -> Result<Vec<T>, ProfileError> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let values = list.value.as_array().ok_or_else(|| list.bad("expected a list".to_owned()))?;
    let item = |(place, value)| read(&At { value, place: format!("{}[{place}]", list.place) });
    values.iter().enumerate().map(item).collect()
}

fn strings(list: Option<At<'_>>) -> Result<Vec<String>, ProfileError> {
    each(list, &|item| item.string().map(str::to_owned))
}

fn action(at: &At<'_>) -> Result<Action, ProfileError> {
    Ok(match at.string()? {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno,
        "SCMP_ACT_TRACE" => Action::Trace,
        "SCMP_ACT_NOTIFY" => Action::Notify,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        other => return Err(at.bad(format!("unknown action {other:?}"))),
    })
}

/// Podman's `errno` is a name or a number in a string, and wins over `errnoRet`; without either it is EPERM.
fn outcome(at: &At<'_>, errno_ret: Option<At<'_>>, errno: Option<At<'_>>) -> Result<Outcome, ProfileError> {
    let action = action(at)?;
    let number = match (errno, errno_ret) {
        (Some(errno), _) if !errno.string()?.is_empty() => {
            let text = errno.string()?;
            let number = text.parse().ok().or_else(|| errno::number(text));
            number.ok_or_else(|| errno.bad(format!("unknown errno {text:?}")))?
        }
        (_, Some(errno_ret)) => errno_ret.number()?,
        _ => 1,
    };
    let errno = if matches!(action, Action::Errno | Action::Trace) { number } else { 0 };
    Ok(Outcome { action, errno })
}

fn rule(at: &At<'_>) -> Result<Rule, ProfileError> {
    let object = at.object(keys::ENTRY)?;
    let mut names = strings(at.get(object, "names"))?;
    if let Some(name) = at.get(object, "name").filter(|name| name.value != "") {
        if !names.is_empty() {
            return Err(at.bad("there is both name and names, and Docker refuses that".to_owned()));
        }
        names.push(name.string()?.to_owned());
    }
    let action = at.get(object, "action").ok_or_else(|| at.bad("there is no action".to_owned()))?;
    Ok(Rule {
        place: at.place.clone(),
        names: names.into_iter().collect(),
        outcome: outcome(&action, at.get(object, "errnoRet"), at.get(object, "errno"))?,
        conditions: each(at.get(object, "args"), &condition)?,
        includes: filter(at.get(object, "includes"))?,
        excludes: filter(at.get(object, "excludes"))?,
    })
}

fn condition(at: &At<'_>) -> Result<Condition, ProfileError> {
    let object = at.object(keys::CONDITION)?;
    let op_at = at.get(object, "op").ok_or_else(|| at.bad("there is no op".to_owned()))?;
    let op = match op_at.string()? {
        "SCMP_CMP_NE" => Op::Ne,
        "SCMP_CMP_LT" => Op::Lt,
        "SCMP_CMP_LE" => Op::Le,
        "SCMP_CMP_EQ" => Op::Eq,
        "SCMP_CMP_GE" => Op::Ge,
        "SCMP_CMP_GT" => Op::Gt,
        "SCMP_CMP_MASKED_EQ" => Op::MaskedEq,
        other => return Err(op_at.bad(format!("unknown operator {other:?}"))),
    };
    // Go leaves a number that is absent at 0.
    let number = |key| at.get(object, key).map_or(Ok(0), |number| number.number::<u64>());
    let index = u8::try_from(number("index")?).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| at.bad("a call has arguments 0 to 5".to_owned()))?;
    Ok(Condition { index, op, value: number("value")?, value_two: number("valueTwo")? })
}

fn filter(at: Option<At<'_>>) -> Result<Filter, ProfileError> {
    let Some(at) = at else { return Ok(Filter::default()) };
    let object = at.object(keys::FILTER)?;
    let min_kernel = match at.get(object, "minKernel") {
        None => None,
        Some(version) => {
            let text = version.string()?;
            let bad = || version.bad(format!("expected MAJOR.MINOR, not {text:?}"));
            Some(kernel_version(text).filter(|_| text.matches('.').count() == 1).ok_or_else(bad)?)
        }
    };
    Ok(Filter {
        caps: strings(at.get(object, "caps"))?,
        arches: strings(at.get(object, "arches"))?,
        min_kernel,
    })
}

/// The first two numbers of a kernel's version.
pub(super) fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn arch_map_entry(at: &At<'_>) -> Result<(String, Vec<String>), ProfileError> {
    let object = at.object(keys::ARCH_MAP)?;
    let of_host =
        at.get(object, "architecture").ok_or_else(|| at.bad("there is no architecture".to_owned()))?;
    let with_it = strings(at.get(object, "subArchitectures"))?;
    known_architecture(of_host.string()?, || of_host.place.clone())?;
    for (place, architecture) in with_it.iter().enumerate() {
        known_architecture(architecture, || format!("{}.subArchitectures[{place}]", at.place))?;
    }
    Ok((of_host.string()?.to_owned(), with_it))
}

/// The names of libseccomp 2.6 (include/seccomp.h.in), as profiles spell them.
fn known_architecture(name: &str, place: impl Fn() -> String) -> Result<(), ProfileError> {
    const KNOWN: [&str; 24] = [
        "NATIVE",
        "X86",
        "X86_64",
        "X32",
        "ARM",
        "AARCH64",
        "LOONGARCH64",
        "M68K",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "SHEB",
        "SH",
    ];
    match name.strip_prefix("SCMP_ARCH_") {
        Some(rest) if KNOWN.contains(&rest) => Ok(()),
        _ => Err(ProfileError::Bad { place: place(), problem: format!("unknown architecture {name:?}") }),
    }
}
