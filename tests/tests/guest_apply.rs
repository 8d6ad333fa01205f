//! Profiles in force on a node with AppArmor, seen from outside: by the kernel's own files, never by khard's words.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use khard_tests::{
    apparmor::{self, Loaded},
    khard::{Done, command, start},
    process::Owned,
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

const KERNEL: &str = "/sys/kernel/security/apparmor";
const PROFILES: &str = "/etc/apparmor.d";
const LEDGER: &str = "/var/lib/khard";
const KUBELET: &str = "/var/lib/kubelet";
const SECCOMP: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]}"#;

/// One test at a time has the node, and leaves it as it was.
static NODE: Mutex<()> = Mutex::new(());

struct Node {
    dir: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Node {
    /// `None`: this kernel has no AppArmor.
    fn new(test: &str) -> Option<Self> {
        if !apparmor::is_here() {
            println!("KHARD-SKIP {test}: this kernel has no AppArmor");
            return None;
        }
        let alone = NODE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!Path::new(LEDGER).exists(), "an earlier test has left something");
        // As kubelet's folder is there on a node.
        fs::create_dir_all(KUBELET).unwrap();
        Some(Self { dir: tempfile::tempdir().unwrap(), _alone: alone })
    }

    /// An output folder with an AppArmor profile.
    fn output(&self, folder: &str, text: &str) -> PathBuf {
        let dir = self.dir.path().join(folder);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("x.apparmor"), text).unwrap();
        dir
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets a program run under a profile until it is dropped.
    fn confined(name: &str) -> Owned {
        let process = Owned::spawn(Command::new("aa-exec").args(["-p", name, "--", "sleep", "1000"]));
        wait::until("it is confined", || label(process.pid()).starts_with(name));
        process
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(KUBELET);
        let _ = fs::remove_dir_all(LEDGER);
    }
}

/// Allows reading and executing everything, and writing nothing but `DIR/allowed`; refuses `DIR/denied` by name.
fn profile(name: &str, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "abi <abi/3.0>,\n\nprofile {name} flags=(attach_disconnected) {{\n  /** rmix,\n  /dev/** rw,\n  capability,\n  signal,\n  \
         \"{dir}/allowed\" rw,\n  deny \"{dir}/denied\" w,\n  audit deny \"{dir}/audited\" w,\n}}\n"
    )
}

fn khard(args: &[&str]) -> Done {
    start(&mut command(args)).end()
}

/// What an init system does with a profile's file: `-r` loads it, `-R` removes it.
fn parser(what: &str, name: &str) {
    let status = Command::new("apparmor_parser").args([what, &format!("{PROFILES}/{name}")]).status();
    assert!(status.unwrap().success());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The mode of a profile, by the kernel's list.
fn mode(name: &str) -> Option<String> {
    let list = fs::read_to_string(Path::new(KERNEL).join("profiles")).unwrap();
    list.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(" (")?.strip_suffix(')')?.to_owned()))
}

/// Rises with every profile that is loaded or removed. Read once: a second read(2) of the same open file waits for the next change
/// (`ns_revision_read()`, security/apparmor/apparmorfs.c, Linux 6.12).
fn revision() -> String {
    let mut buffer = [0; 32];
    let n = fs::File::open(Path::new(KERNEL).join("revision")).unwrap().read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

fn label(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap_or_default()
}

/// Everything that khard may write: files with inode and time, so that one that was written again shows, and the kernel's list.
fn everything() -> BTreeMap<String, (u64, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let list = fs::read(Path::new(KERNEL).join("profiles")).unwrap();
    all.insert("kernel".to_owned(), (0, 0, 0, list));
    let mut folders: Vec<PathBuf> = [PROFILES, LEDGER, KUBELET].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                let seen = (meta.ino(), meta.mtime(), meta.mtime_nsec(), bytes);
                all.insert(entry.path().display().to_string(), seen);
            }
        }
    }
    all
}

/// Whether a shell under a profile can write a file.
fn can_write(profile: &str, file: &Path) -> bool {
    let _ = fs::remove_file(file);
    let status = Command::new("aa-exec")
        .args(["-p", profile, "--", "sh", "-c", "echo x > \"$0\" 2>/dev/null"])
        .arg(file)
        .status()
        .expect("aa-exec");
    assert_eq!(status.success(), file.exists());
    status.success()
}

#[test]
fn what_is_applied_is_in_force_and_twice_is_once_and_removed_is_gone() {
    let Some(node) = Node::new("what_is_applied_is_in_force_and_twice_is_once_and_removed_is_gone") else {
        return;
    };
    let before = everything();
    let name = "khard-guest-apply";
    let dir = node.output("web", &profile(name, node.dir.path()));
    fs::write(dir.join("seccomp.json"), SECCOMP).unwrap();
    let done = khard(&["apply", text(&dir)]).expect(0);
    assert_eq!(mode(name).as_deref(), Some("enforce"));
    let seccomp: Vec<_> = fs::read_dir(format!("{KUBELET}/seccomp")).unwrap().flatten().collect();
    assert_eq!(seccomp.len(), 1);
    assert_eq!(fs::read_to_string(seccomp[0].path()).unwrap(), SECCOMP);
    for line in [
        format!("localhostProfile: {name}}}"),
        format!("localhostProfile: {}}}", seccomp[0].file_name().display()),
        format!("--security-opt apparmor={name}\n"),
    ] {
        assert!(done.stdout.contains(&line), "{line}\n{}", done.stdout);
    }
    assert!(can_write(name, &node.scratch("allowed")));
    assert!(!can_write(name, &node.scratch("denied")));
    assert!(!can_write(name, &node.scratch("other")));

    // Twice is once: no file is written again, and nothing is loaded.
    let (once, loads) = (everything(), revision());
    let done = khard(&["apply", text(&dir)]).expect(0);
    assert!(done.stdout.contains("Nothing was changed"), "{}", done.stdout);
    assert!(everything() == once);
    assert_eq!(revision(), loads);

    // As at boot.
    parser("-R", name);
    parser("-r", name);
    let done = khard(&["apply", text(&dir)]).expect(0);
    assert!(
        done.stdout.contains("Nothing was changed"),
        "the same text makes the same policy: {}",
        done.stdout
    );

    // What confines a running process stays.
    let mut process = Node::confined(name);
    let (once, loads) = (everything(), revision());
    for args in [&["remove", name][..], &["apply", text(&dir), "--complain"]] {
        let done = khard(args).expect(2);
        assert!(done.stderr.contains("confines 1 running process"), "{}", done.stderr);
    }
    assert!(everything() == once);
    assert_eq!(revision(), loads);
    assert_eq!(label(process.pid()), format!("{name} (enforce)\n"));

    // The status says what /proc and securityfs say.
    let status: Value = serde_json::from_str(&khard(&["status", "--json"]).expect(0).stdout).unwrap();
    let list = fs::read_to_string(Path::new(KERNEL).join("profiles")).unwrap();
    let profiles = status["profiles"].as_array().unwrap();
    assert_eq!(profiles.len(), list.lines().count());
    let ours = profiles.iter().find(|profile| profile["name"] == name).unwrap();
    assert_eq!(ours["mode"], "enforce");
    assert_eq!(ours["processes"][0]["pid"], process.pid());
    assert_eq!(ours["khard"]["file"], format!("{PROFILES}/{name}"));
    assert_eq!(profiles.iter().filter(|profile| !profile["khard"].is_null()).count(), 1);

    process.kill();
    khard(&["remove", text(&dir)]).expect(0);
    assert_eq!(mode(name), None);
    assert!(everything() == before, "files, kernel and ledger are as before");
    assert!(!Path::new(LEDGER).exists());
}

#[test]
fn a_mode_is_changed_for_what_runs_and_for_the_next_boot() {
    let Some(node) = Node::new("a_mode_is_changed_for_what_runs_and_for_the_next_boot") else { return };
    let before = everything();
    let name = "khard-guest-mode";
    let dir = node.output("web", &profile(name, node.dir.path()));
    khard(&["apply", text(&dir), "--complain"]).expect(0);
    assert_eq!(mode(name).as_deref(), Some("complain"));
    let mut process = Node::confined(name);
    for wanted in ["enforce", "complain", "enforce"] {
        let done = khard(&["mode", name, wanted]).expect(0);
        assert_eq!(mode(name).as_deref(), Some(wanted));
        assert_eq!(label(process.pid()), format!("{name} ({wanted})\n"), "it runs on, in the other mode");
        assert!(process.is_running());
        let is_complain = wanted == "complain";
        assert_eq!(can_write(name, &node.scratch("other")), is_complain);
        assert!(!can_write(name, &node.scratch("denied")), "deny rules refuse in every mode");
        // Linux 6.1 and 6.12: only what a deny rule also keeps out of the log is refused in complain mode.
        assert_eq!(can_write(name, &node.scratch("audited")), is_complain);
        assert_eq!(done.stdout.contains("deny rules still refuse"), is_complain, "{}", done.stdout);
        // As at boot: the text alone decides.
        let loads = revision();
        parser("-r", name);
        assert_ne!(revision(), loads);
        assert_eq!(mode(name).as_deref(), Some(wanted));
    }
    assert_eq!(fs::read_to_string(format!("{PROFILES}/{name}")).unwrap(), profile(name, node.dir.path()));
    process.kill();
    khard(&["remove", name]).expect(0);
    assert!(everything() == before);
}

#[test]
fn a_failed_apply_leaves_all_as_it_was() {
    let Some(node) = Node::new("a_failed_apply_leaves_all_as_it_was") else { return };
    let good = node.output("a", &profile("khard-guest-a", node.dir.path()));
    let bad = node.output(
        "b",
        &profile("khard-guest-b", node.dir.path())
            .replace("capability,", "include <abstractions/no-such-file-for-khard>"),
    );
    // More than the little disk below has room for.
    let comments = format!("  # {}\n", "x".repeat(150)).repeat(2000);
    let large =
        node.output("c", &profile("khard-guest-c", node.dir.path()).replace("  signal,\n", &comments));
    fs::write(large.join("seccomp.json"), SECCOMP).unwrap();

    let before = everything();
    let done = khard(&["apply", text(&good), text(&bad)]).expect(2);
    assert!(done.stderr.contains("apparmor_parser"), "{}", done.stderr);
    assert!(everything() == before, "the second does not compile");

    // Disks and folders of its own, which end with it. What is there is printed before and after.
    let script = |mounts: &str, dirs: &[&Path]| {
        let dirs: Vec<_> = dirs.iter().map(|dir| text(dir)).collect();
        let list = format!(
            "find {PROFILES} {LEDGER} {KUBELET} -type f 2>/dev/null | sort | xargs -r sha256sum; cat {KERNEL}/profiles"
        );
        let khard = khard_tests::khard::khard();
        format!(
            "set -e; mount --make-rprivate /; {mounts}\nlist() {{ {list}; }}\nlist > {0}/before\n! {1} apply {2} 2> {0}/said || exit 9\n\
             list > {0}/after\ncat {0}/said\ncmp {0}/before {0}/after",
            node.dir.path().display(),
            khard.display(),
            dirs.join(" ")
        )
    };
    let small = format!(
        "mkdir {0}/disk; mount -t tmpfs -o size=96k none {0}/disk; for f in abi tunables abstractions; do ln -s {0}/old/$f {0}/disk/$f; done\n\
         mkdir {0}/old; mount --bind {PROFILES} {0}/old; mount --move {0}/disk {PROFILES}",
        node.dir.path().display()
    );
    let read_only = format!("mount --bind {KUBELET} {KUBELET}; mount -o remount,ro,bind {KUBELET}");
    for (mounts, second, why) in
        [(small, &large, "the disk is full"), (read_only, &large, "it cannot be written here")]
    {
        let script = script(&mounts, &[&good, second]);
        let output = Command::new("unshare").args(["-m", "bash", "-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(why) && said.contains("nothing was changed"), "{said}");
        assert_eq!((mode("khard-guest-a"), mode("khard-guest-c")), (None, None));
        assert!(everything() == before, "{why}");
    }
}

#[test]
fn a_profile_of_the_same_name_by_somebody_else_is_not_touched() {
    let Some(node) = Node::new("a_profile_of_the_same_name_by_somebody_else_is_not_touched") else { return };
    let name = "khard-guest-foreign";
    let dir = node.output("web", &profile(name, node.dir.path()));
    let foreign = Loaded::new(&profile(name, Path::new("/foreign")));
    let (before, loads) = (everything(), revision());
    let done = khard(&["apply", text(&dir)]).expect(2);
    assert!(done.stderr.contains("was not loaded by khard"), "{}", done.stderr);
    khard(&["remove", name, "--force"]).expect(2);
    khard(&["mode", name, "complain"]).expect(2);
    assert!(everything() == before);
    assert_eq!(revision(), loads);

    // By force it is replaced, and what khard did not finish is put back as it was loaded.
    let bad = node.output("z", &profile("khard-guest-z", node.dir.path()));
    fs::write(bad.join("seccomp.json"), SECCOMP).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", format!("{KUBELET}/seccomp")).unwrap();
    let hash = || {
        let folder = fs::read_dir(format!("{KERNEL}/policy/profiles")).unwrap().flatten().find(|entry| {
            fs::read_to_string(entry.path().join("name")).is_ok_and(|found| found.trim() == name)
        });
        let folder = folder.unwrap().path();
        fs::read(folder.join("sha256")).or_else(|_| fs::read(folder.join("sha1"))).unwrap()
    };
    let (before, was) = (everything(), hash());
    khard(&["apply", "--force", text(&dir), text(&bad)]).expect(2);
    assert!(everything() == before);
    assert_eq!(hash(), was);
    assert_eq!(mode("khard-guest-z"), None);
    khard(&["apply", "--force", text(&dir)]).expect(0);
    assert_ne!(hash(), was);
    drop(foreign);
    khard(&["remove", name]).expect(0);
    assert_eq!(mode(name), None);
}
