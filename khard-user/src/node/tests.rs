//! A node below a folder: its files, its kernel's files, and a program in the place of AppArmor's parser, which keeps the kernel's
//! list as the real one makes the kernel do.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use khard_profile::apparmor_text::Mode;

use super::{
    apply::Did,
    ledger::{Ledger, Lock},
    status::Needs,
    *,
};

/// A text with REFUSED in it compiles, and the kernel does not take it.
const PARSER: &str = r#"#!/bin/sh
cd ROOT/sys/kernel/security/apparmor || exit 3
text=$(cat)
name=$(echo "$text" | sed -n 's/^profile "*\([^" ]*\).*/\1/p')
forget() {
    [ -e "policy/profiles/$name.1" ] || return 254
    rm -r "policy/profiles/$name.1"
    grep -v "^$name (" profiles > profiles.new
    mv profiles.new profiles
}
case "$*" in
*--stdout*)
    case "$text" in *BROKEN*) echo "syntax error, unexpected TOK_ID" >&2; exit 1 ;; esac
    echo "$text"
    ;;
"--binary --replace")
    case "$text" in *REFUSED*) echo "Unable to replace: Invalid argument" >&2; exit 1 ;; esac
    forget
    mode=enforce
    case "$text" in *complain*) mode=complain ;; esac
    mkdir "policy/profiles/$name.1" && cd "policy/profiles/$name.1" || exit 3
    echo "$name" > name
    echo "$text" | sha256sum > sha256
    echo "$text" > raw_data
    echo "$name ($mode)" >> ../../../profiles
    ;;
--remove)
    case "$name" in *stuck*) echo "Unable to remove" >&2; exit 1 ;; esac
    forget
    ;;
esac
"#;

const SECCOMP: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#;

struct Node {
    dir: tempfile::TempDir,
    places: Places,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for folder in [
            "etc/apparmor.d",
            "var/lib/kubelet",
            "proc/self/ns",
            "proc/sys/kernel/random",
            "sys/module/apparmor/parameters",
            "sys/kernel/security/apparmor/policy/profiles",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("sys/module/apparmor/parameters/enabled"), "Y\n").unwrap();
        fs::write(root.join("sys/kernel/security/apparmor/profiles"), "other (enforce)\n").unwrap();
        fs::write(root.join("proc/sys/kernel/random/boot_id"), "boot-1\n").unwrap();
        symlink("pid:[4026531836]", root.join("proc/self/ns/pid")).unwrap();
        let parser = dir.path().join("parser");
        fs::write(&parser, PARSER.replace("ROOT", root.to_str().unwrap())).unwrap();
        fs::set_permissions(&parser, fs::Permissions::from_mode(0o755)).unwrap();
        let seccomp = vec![root.join("var/lib/kubelet/seccomp")];
        Self { places: Places { seccomp, ..Places::at(&root, Some(&parser)) }, dir }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.places.root.join(below)
    }

    /// An output folder.
    fn output(&self, name: &str, text: &str) -> PathBuf {
        let dir = self.dir.path().join("out").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("web.apparmor"), text).unwrap();
        fs::write(dir.join("seccomp.json"), SECCOMP).unwrap();
        dir
    }

    fn apply(&self, dirs: &[&Path]) -> Result<Applied, NodeError> {
        apply(&self.places, &options(dirs))
    }

    /// Everything on the node, but for where things were being written.
    fn all(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.places.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    all.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
                }
            }
        }
        all
    }

    fn kernel(&self) -> String {
        fs::read_to_string(self.path("sys/kernel/security/apparmor/profiles")).unwrap()
    }

    /// A process under a profile.
    fn process(&self, pid: u32, label: &str) {
        let dir = self.path(&format!("proc/{pid}/task/{pid}/attr"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("current"), label).unwrap();
        let of = |file: &str| self.path(&format!("proc/{pid}/{file}"));
        fs::write(
            of("status"),
            format!("Name:\t\x1b[2Jevil\nState:\tS\nNSpid:\t{pid}\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
        )
        .unwrap();
        fs::write(of("stat"), format!("{pid} (x) S{}\n", " 7".repeat(30))).unwrap();
        fs::write(of("cgroup"), format!("0::/kubepods/{}\n", "a1".repeat(32))).unwrap();
    }
}

fn options(dirs: &[&Path]) -> ApplyOptions {
    ApplyOptions { dirs: dirs.iter().map(|dir| (*dir).to_owned()).collect(), ..ApplyOptions::default() }
}

fn text(name: &str) -> String {
    format!(
        "abi <abi/3.0>,\n\nprofile {name} flags=(attach_disconnected) {{\n  \"/x\" r,\n  deny \"/y\" w,\n}}\n"
    )
}

#[test]
fn what_is_applied_is_on_disk_and_in_the_kernel_and_twice_is_once() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let applied = node.apply(&[&dir]).unwrap();
    assert_eq!((applied.apparmor[0].did, applied.seccomp[0].did), (Did::Added, Some(Did::Added)));
    assert_eq!(fs::read_to_string(node.path("etc/apparmor.d/khard-web")).unwrap(), text("khard-web"));
    assert_eq!(node.kernel(), "other (enforce)\nkhard-web (enforce)\n");
    let name = applied.seccomp[0].localhost_profile.clone().unwrap();
    assert_eq!(fs::read_to_string(node.path("var/lib/kubelet/seccomp").join(&name)).unwrap(), SECCOMP);
    let words = applied.to_text();
    assert!(
        words.contains("localhostProfile: khard-web}")
            && words.contains(&format!("localhostProfile: {name}}}")),
        "{words}"
    );
    let before = node.all();
    let again = node.apply(&[&dir]).unwrap();
    assert_eq!((again.apparmor[0].did, again.seccomp[0].did), (Did::Nothing, Some(Did::Nothing)));
    assert!(again.to_text().ends_with("all of this is so already.\n"));
    assert_eq!(node.all(), before);
}

#[test]
fn what_was_recorded_outside_of_a_container_is_advised_for_none() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let words = |subject: &str| {
        fs::write(dir.join("recording.json"), format!("{{\"subject\": {subject}}}")).unwrap();
        node.apply(&[&dir]).unwrap().to_text()
    };
    let of_command = words(r#"{"kind": "command", "program": "/bin/sh"}"#);
    assert!(of_command.contains("aa-exec -p khard-web -- COMMAND"), "{of_command}");
    for of_containers in ["appArmorProfile", "apparmor=khard-web"] {
        assert!(!of_command.contains(of_containers), "{of_command}");
    }
    let of_container = words(r#"{"kind": "docker", "name": "web", "name_from": "name"}"#);
    assert!(of_container.contains("--security-opt apparmor=khard-web\n"), "{of_container}");
}

#[test]
fn what_was_done_is_told_to_programs_too() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let applied = serde_json::to_value(node.apply(&[&dir]).unwrap()).unwrap();
    assert_eq!(applied["apparmor"][0]["name"], "khard-web");
    assert_eq!([&applied["apparmor"][0]["mode"], &applied["seccomp"][0]["did"]], ["enforce", "added"]);
    let switched = serde_json::to_value(switch(&node.places, "khard-web", Mode::Complain).unwrap()).unwrap();
    assert_eq!([&switched["name"], &switched["mode"]], ["khard-web", "complain"]);
    assert_eq!(switched["changed"], true);
    let removed =
        serde_json::to_value(remove(&node.places, &["khard-web".to_owned()], &[], false).unwrap()).unwrap();
    assert_eq!(
        removed,
        serde_json::json!({"apparmor": ["khard-web"], "seccomp": [], "absent": [], "shared": []})
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let before = node.all();
    let applied = apply(&node.places, &ApplyOptions { dry_run: true, ..options(&[&dir]) }).unwrap();
    assert!(applied.to_text().contains("would be loaded"));
    assert_eq!(node.all(), before);
}

#[test]
fn when_the_second_of_two_fails_the_first_is_undone() {
    for (what, broken) in [("compile", "BROKEN"), ("kernel", "REFUSED")] {
        let node = Node::new();
        let good = node.output("a", &text("khard-a"));
        let bad = node.output("b", &format!("{}# {broken}\n", text("khard-b")));
        let before = node.all();
        let error = node.apply(&[&good, &bad]).unwrap_err();
        assert_eq!(node.all(), before, "{what}: {error}");
        assert_eq!(
            matches!(error, NodeError::Undone { ref left, .. } if left.is_empty()),
            what == "kernel",
            "{error:?}"
        );
        node.apply(&[&good]).unwrap();
        let before = node.all();
        node.apply(&[&good, &bad]).unwrap_err();
        assert_eq!(node.all(), before, "{what}, with something there");
    }
}

#[test]
fn when_a_file_cannot_be_written_what_was_loaded_is_undone() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    symlink("/nowhere", node.path("var/lib/kubelet/seccomp")).unwrap();
    let before = node.all();
    let error = node.apply(&[&dir]).unwrap_err();
    assert!(matches!(error, NodeError::Undone { ref left, .. } if left.is_empty()), "{error:?}");
    assert_eq!(node.all(), before);
}

#[test]
fn what_others_wrote_or_changed_is_left_alone_until_it_is_forced_and_comes_back_if_that_fails() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let file = node.path("etc/apparmor.d/khard-web");
    let refused = |error: NodeError, why: &str| assert!(error.to_string().contains(why), "{error}");
    fs::write(&file, "profile khard-web { }\n").unwrap();
    refused(node.apply(&[&dir]).unwrap_err(), "was not written by khard");
    let force = ApplyOptions { force: true, ..options(&[&dir]) };
    let bad = node.output("b", &format!("{}# REFUSED\n", text("khard-z")));
    let before = node.all();
    apply(&node.places, &ApplyOptions { force: true, ..options(&[&dir, &bad]) }).unwrap_err();
    assert_eq!(node.all(), before);
    apply(&node.places, &force).unwrap();
    fs::write(&file, text("khard-web") + "# by hand\n").unwrap();
    refused(node.apply(&[&dir]).unwrap_err(), "was changed since");
    refused(remove(&node.places, &["khard-web".to_owned()], &[], false).unwrap_err(), "was changed since");
    refused(switch(&node.places, "khard-web", Mode::Complain).unwrap_err(), "was changed since");
    apply(&node.places, &force).unwrap();
    fs::write(node.path("sys/kernel/security/apparmor/policy/profiles/khard-web.1/sha256"), "another")
        .unwrap();
    refused(node.apply(&[&dir]).unwrap_err(), "was loaded anew by somebody else");
    refused(remove(&node.places, &["khard-web".to_owned()], &[], false).unwrap_err(), "was loaded anew");
    // After a reboot, what is loaded was loaded from the file.
    fs::write(node.path("proc/sys/kernel/random/boot_id"), "boot-2\n").unwrap();
    assert_eq!(node.apply(&[&dir]).unwrap().apparmor[0].did, Did::Nothing);
    // A link is no file of khard's.
    let other = node.output("other", &text("khard-other"));
    symlink("/etc/passwd", node.path("etc/apparmor.d/khard-other")).unwrap();
    refused(node.apply(&[&other]).unwrap_err(), "was not written by khard");
}

#[test]
fn a_loaded_profile_of_the_same_name_is_not_touched() {
    let node = Node::new();
    let dir = node.output("web", &text("other"));
    let before = node.all();
    let error = node.apply(&[&dir]).unwrap_err();
    assert!(error.to_string().contains("the profile other in the kernel was not loaded by khard"), "{error}");
    assert_eq!(node.all(), before);
    let error = remove(&node.places, &["other".to_owned()], &[], true).unwrap_err();
    assert!(matches!(error, NodeError::Unknown { .. }), "{error}");
    assert_eq!(node.all(), before);
}

#[test]
fn what_confines_a_running_process_is_not_replaced_and_not_removed() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    node.apply(&[&dir]).unwrap();
    node.process(77, "khard-web//null-/bin/sh (enforce)\n");
    let before = node.all();
    for error in [
        remove(&node.places, &["khard-web".to_owned()], &[], false).unwrap_err(),
        apply(&node.places, &ApplyOptions { mode: Some(Mode::Complain), ..options(&[&dir]) }).unwrap_err(),
    ] {
        assert!(error.to_string().contains("confines 1 running process: stop it first"), "{error}");
    }
    assert_eq!(node.all(), before);
    let switched = switch(&node.places, "khard-web", Mode::Complain).unwrap();
    assert_eq!((switched.n_processes, switched.denies), (1, true));
    assert!(switched.to_text().contains("deny rules still refuse"));
    remove(&node.places, &["khard-web".to_owned()], &[], true).unwrap();
    assert_eq!(node.kernel(), "other (enforce)\n");
}

#[test]
fn a_mode_is_changed_in_the_text_and_in_the_kernel_and_back_to_the_same_bytes() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let file = node.path("etc/apparmor.d/khard-web");
    apply(&node.places, &ApplyOptions { mode: Some(Mode::Complain), ..options(&[&dir]) }).unwrap();
    let complain = text("khard-web").replace("disconnected)", "disconnected,complain)");
    assert_eq!(fs::read_to_string(&file).unwrap(), complain);
    assert!(node.kernel().contains("khard-web (complain)"));
    let before = node.all();
    assert!(!switch(&node.places, "khard-web", Mode::Complain).unwrap().changed);
    assert_eq!(node.all(), before);
    assert!(switch(&node.places, "khard-web", Mode::Enforce).unwrap().changed);
    assert_eq!(fs::read_to_string(&file).unwrap(), text("khard-web"));
    assert!(node.kernel().contains("khard-web (enforce)"));
    assert_eq!(node.apply(&[&dir]).unwrap().apparmor[0].did, Did::Nothing);
    // A link that would make the next boot load it otherwise.
    fs::create_dir(node.path("etc/apparmor.d/force-complain")).unwrap();
    symlink(&file, node.path("etc/apparmor.d/force-complain/khard-web")).unwrap();
    assert!(switch(&node.places, "khard-web", Mode::Complain).unwrap().changed);
    let error = switch(&node.places, "khard-web", Mode::Enforce).unwrap_err();
    assert!(error.to_string().contains("makes the next boot load it in complain mode"), "{error}");
}

#[test]
fn removing_leaves_nothing() {
    let node = Node::new();
    let (a, b) = (node.output("a", &text("khard-a")), node.output("b", &text("khard-b")));
    let before = node.all();
    node.apply(&[a.parent().unwrap()]).unwrap();
    assert!(node.path("var/lib/khard/ledger.json").exists());
    let needed = Ledger::read(&node.places).unwrap().seccomp.into_keys().next().unwrap();
    let needs = [Needs { file: needed, container: "shop/web/nginx".to_owned() }];
    let error = remove(&node.places, &[a.to_str().unwrap().to_owned()], &needs, false).unwrap_err();
    assert!(error.to_string().contains("the running container shop/web/nginx"), "{error}");
    let removed = remove(&node.places, &["khard-a".to_owned()], &[], false).unwrap();
    assert_eq!(removed.to_text(), "AppArmor profile khard-a: removed\n");
    // By hand in the meantime: nothing is in the way.
    fs::remove_file(node.path("etc/apparmor.d/khard-b")).unwrap();
    let both = [a.to_str().unwrap().to_owned(), b.to_str().unwrap().to_owned()];
    remove(&node.places, &both, &[], false).unwrap();
    assert_eq!(node.all(), before);
    assert!(!node.path("var/lib/khard").exists());
    let error = remove(&node.places, &["khard-a".to_owned()], &[], false).unwrap_err();
    assert!(error.to_string().contains("has not put khard-a into force"), "{error}");
}

#[test]
fn removing_twice_is_removing_once() {
    let node = Node::new();
    let name = "khard-web-0123abcd";
    let dir = node.output("web", &text(name));
    let remove = |what: &str| remove(&node.places, &[what.to_owned()], &[], false);
    let folder = dir.to_str().unwrap();
    let before = node.all();
    node.apply(&[&dir]).unwrap();
    let file = node.apply(&[&dir]).unwrap().seccomp[0].file.clone();
    // The path of nothing is at the head of all others.
    let applied = node.all();
    assert!(remove("").unwrap_err().to_string().contains("khard has not put"));
    assert_eq!(node.all(), applied);
    remove(folder).unwrap();
    for what in [folder, name, file.to_str().unwrap()] {
        let removed = remove(what).unwrap();
        assert_eq!(removed.to_text(), format!("{what}: not there already\n"));
    }
    assert_eq!(node.all(), before);
    assert!(!node.path("var/lib/khard").exists());
    // What somebody else has put there is there, and not khard's to take away.
    for (file, contents) in [
        ("etc/apparmor.d/khard-web-0123abcd", "profile x {}\n"),
        ("sys/kernel/security/apparmor/profiles", "khard-web-0123abcd (enforce)\n"),
    ] {
        let path = node.path(file);
        let old = fs::read(&path).ok();
        fs::write(&path, contents).unwrap();
        for what in [folder, name] {
            let error = remove(what).unwrap_err().to_string();
            assert!(error.contains("khard has not put"), "{error}");
        }
        old.map_or_else(|| fs::remove_file(&path).unwrap(), |old| fs::write(&path, old).unwrap());
    }
}

#[test]
fn a_folder_takes_all_away_that_was_applied_from_it_but_not_what_another_folder_has_too() {
    let node = Node::new();
    let before = node.all();
    let (web, copy) = (node.output("web", &text("khard-web-1")), node.output("copy", &text("khard-web-1")));
    node.apply(&[&web]).unwrap();
    // The same again, from elsewhere: nothing is to be done, and still it is known.
    assert_eq!(node.apply(&[&copy]).unwrap().apparmor[0].did, Did::Nothing);
    node.output("web", &text("khard-web-2"));
    node.apply(&[&web]).unwrap();
    node.output("web", &text("khard-web-3"));
    fs::write(web.join("seccomp.json"), SECCOMP.replace("read", "write")).unwrap();
    node.apply(&[&web]).unwrap();
    let seccomp = || fs::read_dir(node.path("var/lib/kubelet/seccomp")).unwrap().count();
    assert_eq!(seccomp(), 3, "one of each version, and the copy's, which has the folder's name");

    // One that confines a process keeps all of them.
    node.process(77, "khard-web-2 (enforce)\n");
    let folder = |dir: &Path| [dir.to_str().unwrap().to_owned()];
    let error = remove(&node.places, &folder(&web), &[], false).unwrap_err();
    assert!(error.to_string().contains("the profile khard-web-2 confines 1 running process"), "{error}");
    assert_eq!(node.kernel().lines().count(), 4);
    fs::remove_dir_all(node.path("proc/77")).unwrap();

    let removed = remove(&node.places, &folder(&web), &[], false).unwrap();
    assert_eq!(
        removed.apparmor.iter().map(String::as_str).collect::<Vec<_>>(),
        ["khard-web-2", "khard-web-3"]
    );
    assert_eq!(removed.seccomp.len(), 2);
    assert_eq!(node.kernel(), "other (enforce)\nkhard-web-1 (enforce)\n");
    // What both hold, the first takes away from neither.
    node.output("web", &text("khard-web-1"));
    node.apply(&[&web]).unwrap();
    let kept = remove(&node.places, &folder(&copy), &[], false).unwrap();
    assert!(kept.apparmor.is_empty() && kept.to_text().contains("khard-web-1: stays"), "{}", kept.to_text());
    assert_eq!(node.kernel(), "other (enforce)\nkhard-web-1 (enforce)\n");
    node.apply(&[&copy]).unwrap();
    // The last one also where the folder is gone, and what two folders have with the second of them.
    node.output("web", &text("khard-web-1"));
    node.apply(&[&web]).unwrap();
    node.output("web", &text("khard-web-4"));
    fs::remove_dir_all(&copy).unwrap();
    let both = [folder(&web), folder(&copy)].concat();
    remove(&node.places, &both, &[], false).unwrap();
    assert_eq!(node.all(), before);
    assert!(!node.path("var/lib/khard").exists());
}

#[test]
fn a_mode_of_what_was_made_again_since_warns_and_names_what_took_its_place() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web-1"));
    node.apply(&[&dir]).unwrap();
    let mode = |mode| switch(&node.places, "khard-web-1", mode).unwrap().to_text();
    assert!(!mode(Mode::Complain).contains("warning"));
    node.output("web", &text("khard-web-2"));
    let words = mode(Mode::Enforce);
    let apply = format!("khard apply {} --complain", dir.canonicalize().unwrap().display());
    assert!(words.contains("holds khard-web-2 now; what was added there is not in khard-web-1"), "{words}");
    assert!(words.contains(&apply) && words.contains("then name it where khard-web-1 is named"), "{words}");
    node.apply(&[&dir]).unwrap();
    let words = mode(Mode::Complain);
    assert!(words.contains("holds khard-web-2 now") && !words.contains("khard apply"), "{words}");
    fs::remove_dir_all(&dir).unwrap();
    assert!(!mode(Mode::Enforce).contains("warning"), "nothing is known of what is gone");
}

#[test]
fn a_ledger_of_an_earlier_khard_is_read_and_what_it_lists_can_be_removed() {
    let node = Node::new();
    let before = node.all();
    let dir = node.output("web", &text("khard-web"));
    node.apply(&[&dir]).unwrap();
    let file = node.path("var/lib/khard/ledger.json");
    let mut ledger: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    ledger["version"] = 2.into();
    ledger.as_object_mut().unwrap().remove("origins").unwrap();
    fs::write(&file, ledger.to_string()).unwrap();
    assert!(!switch(&node.places, "khard-web", Mode::Complain).unwrap().to_text().contains("warning"));
    remove(&node.places, &[dir.to_str().unwrap().to_owned()], &[], false).unwrap();
    assert_eq!(node.all(), before);
}

#[test]
fn a_folder_that_khard_made_goes_with_its_last_profile_and_no_other_does() {
    let of_kubelet = "var/lib/kubelet/seccomp";
    let refused = |node: &Node| node.output("b", &format!("{}# REFUSED\n", text("khard-b")));
    let both = |node: &Node, others: Option<&str>| {
        if let Some(file) = others {
            fs::create_dir_all(node.path(of_kubelet)).unwrap();
            fs::write(node.path(of_kubelet).join(file), "{}").unwrap();
        }
        let dir = node.output("web", &text("khard-web"));
        node.apply(&[&dir]).unwrap();
        remove(&node.places, &[dir.to_str().unwrap().to_owned()], &[], false).unwrap();
        node.path(of_kubelet).exists()
    };
    assert!(!both(&Node::new(), None));
    assert!(both(&Node::new(), Some("others.json")));
    // It was there before, and is empty again.
    let node = Node::new();
    fs::create_dir(node.path(of_kubelet)).unwrap();
    assert!(both(&node, None));
    let node = Node::new();
    node.apply(&[&refused(&node)]).unwrap_err();
    assert!(!node.path(of_kubelet).exists(), "undone");
    // AppArmor's own too, as in an image in which it is not installed.
    let node = Node::new();
    fs::remove_dir_all(node.path("etc")).unwrap();
    both(&node, None);
    assert!(!node.path("etc").exists());
}

#[test]
fn when_the_second_of_two_cannot_be_removed_the_first_comes_back() {
    let node = Node::new();
    let (a, b) = (node.output("a", &text("khard-a")), node.output("b", &text("khard-stuck")));
    node.apply(&[&a, &b]).unwrap();
    let sorted = |node: &Node| {
        let mut all = node.all();
        let mut lines: Vec<_> = node.kernel().lines().map(str::to_owned).collect();
        lines.sort();
        all.insert(node.path("sys/kernel/security/apparmor/profiles"), lines.concat().into());
        all
    };
    let before = sorted(&node);
    let both = [a.to_str().unwrap().to_owned(), b.to_str().unwrap().to_owned()];
    let error = remove(&node.places, &both, &[], false).unwrap_err();
    assert!(matches!(error, NodeError::Undone { ref left, .. } if left.is_empty()), "{error:?}");
    assert_eq!(sorted(&node), before);
    // Where AppArmor is off since, nothing is in the way.
    fs::write(node.path("sys/module/apparmor/parameters/enabled"), "N\n").unwrap();
    remove(&node.places, &both, &[], false).unwrap();
    assert!(!node.path("etc/apparmor.d/khard-a").exists() && !node.path("var/lib/khard").exists());
}

#[test]
fn an_image_gets_files_and_what_boots_from_it_is_khards() {
    let mut node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let image = Places { kernel: None, ..node.places.clone() };
    let applied = apply(&image, &options(&[&dir])).unwrap();
    assert_eq!(applied.apparmor[0].file, Path::new("/etc/apparmor.d/khard-web"));
    assert!(applied.to_text().contains("khard-web: written, enforce mode"), "{}", applied.to_text());
    assert_eq!(node.kernel(), "other (enforce)\n");
    // It boots, and something loads the folder.
    let text = fs::read(node.path("etc/apparmor.d/khard-web")).unwrap();
    node.places.parser.as_ref().unwrap().load(&text, "khard-web").unwrap();
    assert_eq!(node.apply(&[&dir]).unwrap().apparmor[0].did, Did::Nothing);
    node.places.parser = None;
    assert!(matches!(node.apply(&[&dir]).unwrap_err(), NodeError::NoParser));
}

#[test]
fn an_image_has_to_be_there_and_its_paths_are_named_with_its_root_or_seen_from_it() {
    let node = Node::new();
    let nowhere = node.path("nowhere");
    let error = Places::of_image(&nowhere).unwrap_err().to_string();
    assert!(error.contains(nowhere.to_str().unwrap()) && !nowhere.exists(), "{error}");
    let image = Places { parser: node.places.parser.clone(), ..Places::of_image(&node.places.root).unwrap() };
    let dir = node.output("web", &text("khard-web"));
    for (named, is_at) in [("etc/relative", "etc/relative"), ("/etc/absolute", "etc/absolute")] {
        let applied =
            apply(&image, &ApplyOptions { seccomp_dir: Some(named.into()), ..options(&[&dir]) }).unwrap();
        let file = applied.seccomp[0].file.strip_prefix("/").unwrap();
        assert!(file.starts_with(is_at) && node.path(file.to_str().unwrap()).is_file(), "{named}");
    }
    fs::write(node.path("etc/apparmor.d/khard-web"), "by hand").unwrap();
    let error = apply(&image, &options(&[&dir])).unwrap_err().to_string();
    let file = node.path("etc/apparmor.d/khard-web");
    assert!(error.contains(&format!("{} was changed since", file.display())), "{error}");
}

#[tokio::test]
async fn the_status_of_an_image_is_what_khard_has_written_there_and_nothing_of_this_machine() {
    let node = Node::new();
    let image = Places { kernel: None, ..node.places.clone() };
    let dir = node.output("web", &text("khard-web"));
    apply(&image, &ApplyOptions { mode: Some(Mode::Complain), ..options(&[&dir]) }).unwrap();
    let words = render(&Status::gather(&image, None).await);
    assert!(words.contains("Profiles: 1 (1 complain)\n  khard-web  complain  by khard; "), "{words}");
    assert!(words.contains("seccomp profiles that khard wrote\n  /var/lib/kubelet/seccomp/"), "{words}");
    for of_this_machine in ["security modules", "Containers", "container runtime", "not known"] {
        assert!(!words.contains(of_this_machine), "{words}");
    }
    let error = switch(&image, "nope", Mode::Enforce).unwrap_err().to_string();
    let status = format!("`khard status --root {}`", image.root.display());
    assert!(error.contains(&status), "{error}");
}

#[test]
fn what_survives_a_reboot_is_told_by_who_loads_it() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    let why = |node: &Node| node.apply(&[&dir]).unwrap().apparmor[0].why_not_at_boot.clone();
    // The temporary folder may be in memory itself.
    let is_in_memory = boot::in_memory(&node.places, &node.path("etc")).is_some();
    assert!(why(&node).is_some());
    let unit = node.path("usr/lib/systemd/system/apparmor.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "").unwrap();
    assert!(why(&node).is_some_and(|why| is_in_memory || why.contains("nothing here loads /etc/apparmor.d")));
    fs::create_dir_all(node.path("etc/systemd/system/sysinit.target.wants")).unwrap();
    let link = node.path("etc/systemd/system/sysinit.target.wants/apparmor.service");
    symlink("/usr/lib/x", &link).unwrap();
    assert!(why(&node).is_some(), "systemd does not run");
    fs::create_dir_all(node.path("run/systemd/system")).unwrap();
    assert_eq!(why(&node).is_some(), is_in_memory);
    symlink("/dev/null", node.path("etc/systemd/system/apparmor.service")).unwrap();
    assert!(why(&node).is_some(), "masked");
}

#[test]
fn odd_names_two_khards_and_a_broken_ledger_are_refused_with_a_reason() {
    let node = Node::new();
    for (name, why) in [
        ("\"a\\033b\"", "control characters"),
        (":ns:x", "namespace"),
        ("a//b", "child profile"),
        ("unconfined", "no profile"),
    ] {
        let dir = node.output("odd", &text(name));
        let error = node.apply(&[&dir]).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains('\x1b'), "{error}");
    }
    let dir = node.output("odd", &text("khard-web"));
    let lock = Lock::take(&node.places).unwrap();
    assert!(matches!(node.apply(&[&dir]).unwrap_err(), NodeError::Busy(_)));
    drop(lock);
    let other = node.output("same", &text("khard-web").replace("/x", "/z"));
    assert!(matches!(node.apply(&[&dir, &other]).unwrap_err(), NodeError::Twice(..)));
    fs::write(node.path("var/lib/khard/ledger.json"), "{\"version\": 9}").unwrap();
    assert!(matches!(node.apply(&[&dir]).unwrap_err(), NodeError::Ledger { .. }));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        node.apply(&[empty.path()]).unwrap_err(),
        NodeError::Input(InputError::NoProfile { .. })
    ));
}

#[tokio::test]
async fn the_status_says_what_confines_whom_and_what_is_missing() {
    let node = Node::new();
    let dir = node.output("web", &text("khard-web"));
    node.apply(&[&dir]).unwrap();
    node.process(77, "khard-web (enforce)\n");
    node.process(78, "unconfined\n");
    let attach = node.path("sys/kernel/security/apparmor/policy/profiles/khard-web.1/attach");
    fs::write(attach, "/usr/{s,}bin/web\n").unwrap();
    symlink("/usr/bin/web", node.path("proc/78/exe")).unwrap();
    let gather = async || Status::gather(&node.places, Some("unix:///nothing/here")).await;
    let words = render(&gather().await);
    assert!(words.contains("khard-web  enforce  by khard"), "{words}");
    assert!(words.contains("    1 process: 77 \\x1b[2Jevil\n    container a1a1a1a1a1a1\n"), "{words}");
    assert!(words.contains("78 \\x1b[2Jevil  khard-web: it attaches to its program"), "{words}");
    assert!(words.contains("process 77: seccomp, 1 filter; khard-web (enforce)"), "{words}");
    assert!(words.contains("not known: what the container runtime knows"), "{words}");
    node.places.parser.as_ref().unwrap().unload("khard-web").unwrap();
    fs::write(node.path("sys/module/apparmor/parameters/enabled"), "N\n").unwrap();
    let words = render(&gather().await);
    assert!(words.contains("AppArmor is not active in this kernel") && !words.contains("reboot:"), "{words}");
    fs::write(node.path("sys/module/apparmor/parameters/enabled"), "Y\n").unwrap();
    let words = render(&gather().await);
    assert!(words.contains("Not loaded, though counted on\n  khard-web  by khard\n"), "{words}");
}
