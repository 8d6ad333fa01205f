//! Owns the table of what can be found: a stable id for each kind of mistake, how bad it is, why it matters and what to do.

use serde::Serialize;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; the profile may be right as it is.
    Note,
    /// The profile does not do what it seems to, or fails in ways that are easily missed.
    Warning,
    /// The profile confines nothing, or nothing runs under it.
    Error,
}

/// A kind of mistake.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name, which never changes.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! kinds {
    ($($name:ident: $severity:ident, $id:literal, $why:literal, $fix:literal;)*) => {
        $(pub(super) const $name: Kind = Kind { id: $id, severity: Severity::$severity, why: $why, fix: $fix };)*

        /// Every kind there is.
        pub const KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    SECCOMP_COMMENT: Error, "seccomp/comment",
        "JSON has no comments: the runtime refuses the whole file, and the container does not start",
        "remove the comment (Docker's form has a key \"comment\" in an entry)";
    SECCOMP_UNREADABLE: Error, "seccomp/unreadable",
        "a runtime refuses the file too, or reads something else than was meant",
        "correct it; nothing else was looked at";
    UNKNOWN_KEY: Warning, "seccomp/unknown-key",
        "runtimes ignore keys that they do not know: what it says does not happen",
        "correct its spelling, or remove it";
    OTHER_CASE: Warning, "seccomp/other-case",
        "JSON readers written in Go (runc, containerd, Docker) take keys in any case; crun takes them as they are specified, and ignores others",
        "write it as it is specified";
    RUNTIME_REFUSES: Error, "seccomp/runtime-refuses",
        "the runtime refuses the profile, and no container starts under it",
        "correct it";
    FLAGS: Warning, "seccomp/flags",
        "runc 1.1 (measured: 1.1.5) refuses every profile with flags: \"seccomp flags are not yet supported\"",
        "leave flags out: runtimes set what they need by themselves";
    ERRNO_ZERO: Warning, "seccomp/errno-zero",
        "the call is not made and returns 0: the program takes it for done, a setuid that drops root as well",
        "give the errno that was meant, 1 for EPERM";
    ERRNO_ON_OTHER_ACTION: Warning, "seccomp/errno-on-other-action",
        "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE return an errno: runc ignores it elsewhere, crun refuses the profile (1.8.1, src/libcrun/seccomp.c)",
        "remove the errno, or use SCMP_ACT_ERRNO";
    DOCKER_FORM: Warning, "seccomp/docker-form",
        "includes, excludes and archMap are Docker's and Podman's. As a Localhost profile of Kubernetes, containerd drops them without a word: every entry then holds for every container, with whatever capabilities, and no 32-bit program runs",
        "for Kubernetes write plain architectures, and only the entries that your container needs; for Docker, Podman and CRI-O it is right as it is";
    EMPTY_ENTRY: Note, "seccomp/empty-entry",
        "an entry without names does nothing",
        "name the calls, or remove the entry";
    KEP_6061: Note, "seccomp/kep-6061",
        "Kubernetes would refuse this profile as an OCI artifact (KEP-6061: the size that runtimes take, and ValidateArtifact of kubernetes-sigs/security-profiles-merger)",
        "matters only if the profile is to be shipped that way";
    ALLOWS_EVERYTHING: Error, "seccomp/allows-everything",
        "it confines less than no profile would on most clusters: naming it switches RuntimeDefault off",
        "list what is allowed and refuse the rest (khard trace), or use RuntimeDefault";
    ONLY_LOGS: Warning, "seccomp/only-logs",
        "it is good for finding out what a program calls; it confines nothing, and switches RuntimeDefault off",
        "do not ship it: record with it, then generate a profile";
    DEFAULT_TRACE: Warning, "seccomp/default-trace",
        "SCMP_ACT_TRACE asks a tracer, and without one the call returns ENOSYS: it does not log",
        "use SCMP_ACT_LOG to see what is called, SCMP_ACT_ERRNO to refuse it";
    NOTIFY_REFUSED: Error, "seccomp/notify-refused",
        "runc refuses SCMP_ACT_NOTIFY as default and for write: it needs write to hand the listener over (libcontainer/seccomp)",
        "use SCMP_ACT_NOTIFY for single other calls, with listenerPath";
    ALLOWS_NOTHING: Error, "seccomp/allows-nothing",
        "the runtime installs the filter before it executes the program: not even that works",
        "list what the program needs (khard trace), and what the runtime needs (khard's floor)";
    MISSING_FLOOR: Error, "seccomp/missing-floor",
        "the runtime itself makes these calls in every container once the filter is in force: no container starts (measured: khard's floor)",
        "allow them";
    FLOOR_OF_RUNTIME: Warning, "seccomp/missing-floor-of-runtime",
        "this runtime makes these calls in every container once the filter is in force (measured: khard's floor): none starts under it",
        "allow them, unless no node runs this runtime";
    NEEDS_NO_NEW_PRIVS: Note, "seccomp/needs-no-new-privs",
        "without no_new_privs a runtime installs the filter earlier, and calls more under it (measured: khard's floor)",
        "set allowPrivilegeEscalation: false wherever the profile is used, or allow these calls too";
    RARE_FLOOR: Warning, "seccomp/missing-rare-floor",
        "the runtime makes these calls in some containers only, by their shape or by chance (measured: khard's floor): some starts fail",
        "allow them";
    FLOOR_OF_VERSIONS: Note, "seccomp/missing-floor-of-versions",
        "these versions make the calls in containers of theirs (measured: khard's floor); without some of them they do with others, or fail",
        "allow them if such a version may come to the nodes";
    EXEC_FLOOR: Note, "seccomp/missing-exec-floor",
        "what joins the container (kubectl exec, exec probes) comes through the runtime, under the same filter",
        "allow these calls if anything is to join";
    NO_WAY_OUT: Warning, "seccomp/no-way-out",
        "every program makes these calls, most only at an end or an error: what cannot exit spins, what cannot return from a signal handler crashes",
        "allow them";
    FORGOTTEN_TWIN: Warning, "seccomp/forgotten-twin",
        "the same can be done by another call, which is not refused",
        "refuse all of them, or list what is allowed instead";
    CONDITION_OVERRIDDEN: Warning, "seccomp/condition-overridden",
        "an entry without conditions decides for every argument, wherever it stands: the conditions of the others are void",
        "take the call out of the entry without conditions";
    CONTRADICTION: Warning, "seccomp/contradiction",
        "two entries without conditions name the same call: the first decides, or the runtime refuses the profile",
        "name each call once";
    ARGUMENTS_VOIDED: Warning, "seccomp/arguments-voided",
        "what the conditions refuse can be done in a way whose arguments no filter can read",
        "close the other way too";
    IO_URING_BYPASS: Warning, "seccomp/io-uring-bypass",
        "requests in an io_uring are no system calls: no filter sees them",
        "refuse io_uring_setup, io_uring_enter and io_uring_register too, as RuntimeDefault does";
    IO_URING_BESIDE: Note, "seccomp/io-uring-beside",
        "requests in an io_uring are no system calls: a program with a ring does these all the same",
        "know that the profile does not refuse them; AppArmor does see them";
    TOO_MANY_CONDITIONS: Warning, "seccomp/too-many-conditions",
        "crun before its pull request 2220 (September 2026), 1.8.1 as well as 1.28, ignores what comes after the sixth condition of an entry; runc takes all",
        "write an entry for each";
    REPEATED_ARGUMENT: Warning, "seccomp/repeated-argument",
        "with two conditions on one argument, runc, crun and Podman make a rule of each condition: one that holds is enough, those on other arguments included",
        "write an entry for each value; a range cannot be written";
    UNKNOWN_NAME: Warning, "seccomp/unknown-name",
        "libseccomp skips names that it does not know, and runtimes say so at most in a debug log: the entry does nothing for it",
        "correct the name";
    UNFAMILIAR_NAME: Note, "seccomp/unfamiliar-name",
        "it is in none of khard's tables (Linux 7.3 on x86-64, 32-bit x86, x32, arm64) and not a call of another architecture that libseccomp 2.5.4 knows; runtimes skip names that they do not know",
        "correct it, unless it is newer";
    NEW_NAME: Note, "seccomp/new-name",
        "runtimes skip names that their libseccomp does not know, and say so at most in a debug log: entries for these have no effect there",
        "on such hosts take the default action's answer into account";
    SAME_AS_DEFAULT: Note, "seccomp/same-as-default",
        "runtimes skip entries that say what the default action says",
        "remove it, or give it the action that was meant (another errno makes a rule)";
    KILL_THREAD: Warning, "seccomp/kill-thread",
        "SCMP_ACT_KILL ends the one thread that made the call: the rest of the process goes on, with its locks held, and hangs",
        "use SCMP_ACT_ERRNO, or SCMP_ACT_KILL_PROCESS";
    KILL_DEFAULT: Note, "seccomp/kill-default",
        "a libc or program that tries a call which the profile does not name is killed instead of doing without it: updates of images become dangerous",
        "use SCMP_ACT_ERRNO with defaultErrnoRet 38 (ENOSYS)";
    LIBC_FALLBACK: Warning, "seccomp/no-fallback",
        "libcs try the newer call first, and go back to the older one on ENOSYS only",
        "allow the newer call, or answer it with SCMP_ACT_ERRNO and errnoRet 38; defaultErrnoRet 38 does that for all calls to come";
    LIBC_FALLBACK_CRUN: Note, "seccomp/no-fallback-on-crun",
        "libcs go back from a newer call to the older one on ENOSYS only. runc answers ENOSYS to calls that are newer than all in the profile, crun does not",
        "set defaultErrnoRet to 38, or name the newer calls";
    UNALLOWED_TWIN: Note, "seccomp/unallowed-twin",
        "which of these a program makes is its libc's choice, and changes with an update of the image or with the architecture",
        "allow both where both do the same, if the image is not pinned";
    NO_ARCHITECTURES: Note, "seccomp/no-architectures",
        "only the host's own architecture is let in: 32-bit programs are killed at their first call, whatever the entries say",
        "list the architectures that are meant";
    EXTRA_ARCHITECTURES: Note, "seccomp/extra-architectures",
        "every entry also opens the calls of these ABIs, which few images use and which had holes of their own (x32, socketcall)",
        "list the host's own architecture alone, unless the image has 32-bit programs";
    BEYOND_DEFAULT: Note, "seccomp/beyond-runtime-default",
        "RuntimeDefault refuses these to a container without added capabilities",
        "keep those that the program was seen to need";

    APPARMOR_COMMENT: Error, "apparmor/comment",
        "AppArmor's comments begin with #: its parser refuses the whole file",
        "write # instead";
    APPARMOR_UNREADABLE: Error, "apparmor/unreadable",
        "AppArmor's parser refuses it too, or khard cannot judge it",
        "correct it; nothing else was looked at";
    MISSING_TUNABLES: Error, "apparmor/missing-tunables",
        "AppArmor's parser refuses a variable that has no value",
        "write include <tunables/global> before the profile";
    UNCONFINED: Error, "apparmor/unconfined",
        "with this flag the profile is a name and no confinement: only its deny rules refuse",
        "remove the flag";
    COMPLAIN: Warning, "apparmor/complain",
        "in complain mode only deny rules refuse, and the rest is logged: Kubernetes and the container look confined, and are not",
        "remove the flag when the log stays quiet";
    DENY_IN_COMPLAIN: Note, "apparmor/deny-in-complain",
        "deny rules refuse in complain mode too, and without a line in the log (audit deny logs)",
        "take them out while learning, if the program is to run freely";
    CONFINES_NOTHING: Error, "apparmor/confines-nothing",
        "everything is granted, and not even what drives the kernel is denied: RuntimeDefault's profile, which this one replaces, denies more",
        "list what the program needs (khard trace), or use RuntimeDefault";
    EVERY_FILE: Warning, "apparmor/every-file",
        "every file may be read and written, those of /proc and /sys by which root drives the kernel included",
        "list the files (khard trace), or add the deny rules of the runtimes' default profile";
    NO_FILE: Warning, "apparmor/no-file",
        "nothing runs under it but a static program that opens no file: others cannot even load their libraries, and none can start another",
        "list what the program needs (khard trace)";
    DENY_LEAVES: Warning, "apparmor/deny-leaves",
        "what is not denied is granted by the broad rule: names can still be made or files be written in another way",
        "deny these too (deny /** wl,), or list what is granted instead";
    DENY_BY_NAME: Warning, "apparmor/deny-by-name",
        "AppArmor decides by a file's name, and this one can be reached under another, which is not denied",
        "take away the rule that makes other names, or list what is granted instead of what is denied";
    RENAMED_PARENT: Note, "apparmor/renamed-parent",
        "whoever may rename a directory reaches what is in it by another name, which is not denied: what is below is not asked about",
        "deny w for the directory itself too, or list what is granted instead";
    UNCONFINED_EXEC: Warning, "apparmor/unconfined-exec",
        "a program that is started by this rule runs without any profile",
        "use ix, or px with a profile of its own";
    MISSING_CHILD: Warning, "apparmor/missing-child",
        "cx changes to a child profile, and the profile has none of that name: the exec fails",
        "add the child profile, or use ix";
    PROFILE_ELSEWHERE: Note, "apparmor/profile-elsewhere",
        "px changes to another profile, which is not in this file: the exec fails on nodes where it is not loaded; and under no_new_privs it may only confine more",
        "load both everywhere, or use ix";
    WRITE_AND_EXECUTE: Warning, "apparmor/write-and-execute",
        "whoever gets code to write files there can run them: the profile no longer limits which programs run",
        "separate what is written from what is executed";
    WRITE_AND_EXECUTE_FILE: Note, "apparmor/write-and-execute-file",
        "the program may change what it executes",
        "keep it only if the program does that";
    NO_STOP_SIGNAL: Warning, "apparmor/no-stop-signal",
        "the runtime cannot stop the container: even SIGKILL of an unconfined process gets EACCES",
        "add: signal (receive) peer=unconfined,";
    NO_RUNTIME_SIGNAL: Note, "apparmor/no-runtime-signal",
        "hosts that confine runc and crun (Ubuntu 24.04 and later) cannot stop the container",
        "add: signal (receive) peer=runc, and the same for crun";
    NO_ATTACH_DISCONNECTED: Note, "apparmor/no-attach-disconnected",
        "in containers some paths are below no root (descriptors from outside, unmounted overlays), and without the flag access to them fails",
        "add flags=(attach_disconnected) to a container's profile";
    ATTACHES: Note, "apparmor/attaches",
        "a profile with a path attaches to every program of that path, the host's own included, as soon as it is loaded",
        "for containers give it a plain name: profile NAME flags=(attach_disconnected) {";
    NO_ABI: Note, "apparmor/no-abi",
        "without it the parser's configuration decides which classes are mediated: the same text confines differently on other hosts",
        "write abi <abi/3.0>, at the top";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_an_id_of_its_own() {
        let ids: BTreeSet<&str> = KINDS.iter().map(|kind| kind.id).collect();
        assert_eq!(ids.len(), KINDS.len());
        for id in ids {
            assert!(id.starts_with("seccomp/") || id.starts_with("apparmor/"), "{id}");
        }
    }
}
