//! AppArmor on this kernel: owns loading and removing profiles, what of it is there, and the profiles under which the
//! kernel tells everything. Knows nothing of khard.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

/// Whether the running kernel has AppArmor, and it is on.
pub fn is_here() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
        && Path::new("/sys/kernel/security/apparmor").exists()
}

/// Whether BPF programs for LSM hooks run: where `bpf` is not among the modules they load, attach, and never do.
pub fn has_bpf_lsm() -> bool {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    modules.trim().split(',').any(|module| module == "bpf")
}

/// Compiles a profile's text, without a kernel; what the parser says if it cannot.
pub fn compile(text: &str) -> Result<(), String> {
    parser(&["-Q", "-K", "-T"], text)
}

fn parser(arguments: &[&str], text: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("profile");
    fs::write(&file, text).expect("a file in a new folder");
    let mut command = Command::new("apparmor_parser");
    let output = command.args(arguments).arg(&file).stdin(Stdio::null()).output().expect("apparmor_parser");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A profile in the kernel, until this value goes.
pub struct Loaded {
    name: String,
    text: String,
}

impl Loaded {
    /// Loads it, afresh: the kernel tells some things once for each profile only.
    pub fn new(text: &str) -> Self {
        let name = name(text).unwrap_or_else(|| panic!("no profile in:\n{text}"));
        parser(&["-K", "-r"], text)
            .unwrap_or_else(|error| panic!("{name} cannot be loaded: {error}\n{text}"));
        Self { name, text: text.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel's own policy allows on a path, of its owner: bits of `AA_MAY_…` (security/apparmor/include/perms.h). Asked
    /// as `aa_query_file_path` (3) does, without touching the file.
    pub fn allowed(&self, path: &[u8]) -> u32 {
        const CLASS_FILE: u8 = 2;
        let question = [b"label\0", self.name.as_bytes(), &[0, CLASS_FILE], path].concat();
        let mut file = fs::File::options()
            .read(true)
            .write(true)
            .open("/sys/kernel/security/apparmor/.access")
            .expect("AppArmor's file for questions");
        file.write_all(&question).expect("a question");
        let mut answer = String::new();
        file.read_to_string(&mut answer).expect("an answer");
        let mask = answer.lines().find_map(|line| line.strip_prefix("allow 0x")).expect("what is allowed");
        u32::from_str_radix(mask, 16).expect("a mask")
    }

    /// Whether a label is this profile, or one that the kernel made below it.
    pub fn is(&self, label: &[u8]) -> bool {
        let label = String::from_utf8_lossy(label);
        label.strip_prefix(&self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with("//"))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // A test that fails says more than this could.
        let _ = parser(&["-K", "-R"], &self.text);
    }
}

/// The name in the first line that begins a profile.
fn name(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("profile "))?;
    let line = line.trim_start();
    match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().map(str::to_owned),
        None => line.split_whitespace().next().map(str::to_owned),
    }
}

/// A profile in complain mode that has no rule for anything: each request is told, as one that would be refused. It has one
/// rule for files, else the kernel would tell every stat(2) too (Linux 6.12).
///
/// A program that starts another gets a label of its own (`NAME//null-PATH`), for want of a rule that says otherwise; under
/// that, only files and capabilities are told: an empty policy mediates no other class (`RULE_MEDIATES` of
/// security/apparmor/include/policy.h; seen on Linux 6.1 and 6.12).
pub fn complaining(name: &str) -> String {
    format!(
        "abi <abi/3.0>,\nprofile {name} flags=(complain,attach_disconnected,mediate_deleted) {{\n  \
         /khard-matches-nothing r,\n}}\n"
    )
}

/// A profile that grants everything and has all of it told. Programs that are started stay under it (`ix`), as under a
/// profile of khard's. Hard links are not told (seen on Linux 6.1 and 6.12), nor capabilities that were only probed for
/// (`CAP_OPT_NOAUDIT`), and those that were are told once for each profile and CPU (`audit_caps`).
pub fn auditing(name: &str) -> String {
    audited(name, "3.0", &[])
}

/// The same of AppArmor 5, which mediates more.
pub fn auditing_all(name: &str) -> String {
    audited(name, "5.0", &["unix", "userns", "io_uring", "mqueue"])
}

fn audited(name: &str, abi: &str, more: &[&str]) -> String {
    let rules =
        ["file", "capability", "network", "signal", "ptrace", "mount", "remount", "umount", "pivot_root"];
    let rules: Vec<_> = rules.iter().chain(more).map(|rule| format!("  audit {rule},\n")).collect();
    let rules = rules.concat();
    format!("abi <abi/{abi}>,\nprofile {name} flags=(attach_disconnected,mediate_deleted) {{\n{rules}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_a_name() {
        assert_eq!(name(&complaining("khard-x")).as_deref(), Some("khard-x"));
        assert_eq!(name("# a\n  profile \"khard a b\" flags=(x) {").as_deref(), Some("khard a b"));
        assert_eq!(name("/usr/bin/x {"), None);
    }

    #[test]
    fn the_profiles_of_the_oracle_compile() {
        for text in [complaining("khard-x"), auditing("khard-x")] {
            assert_eq!(compile(&text), Ok(()), "{text}");
        }
        assert!(compile("profile x { nonsense, }").is_err());
    }
}
