//! The table of what each purpose needs: owns names of commands, files and Debian packages. Knows no machine.

use super::Purpose;

/// One thing that must be there.
pub(crate) struct Need {
    /// The verbs that need it.
    pub purposes: &'static [Purpose],
    /// How to tell that it is there.
    pub probe: Probe,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// What it is for, for a person.
    pub why: &'static str,
}

/// How to tell that something is there.
#[derive(Clone, Copy)]
pub(crate) enum Probe {
    /// A program in PATH (or in a system administrator's folders).
    Command(&'static str),
    /// Any of these files.
    File(&'static [&'static str]),
}

use Probe::{Command, File};
use Purpose::{Bench, Build, Containers, Test, Vm};

const NEEDS: &[Need] = &[
    need(&[Build, Containers], Command("gcc"), "gcc", "links Rust programs"),
    need(&[Build], File(&["/usr/include/features.h"]), "libc6-dev", "links Rust programs"),
    need(&[Vm], Command("qemu-system-x86_64"), "qemu-system-x86", "runs guests"),
    need(
        &[Vm, Containers],
        File(&["/bin/busybox"]),
        "busybox-static",
        "first program of a guest, and Docker's image",
    ),
    need(&[Vm], Command("mke2fs"), "e2fsprogs", "makes a guest's disks"),
    need(&[Vm], Command("depmod"), "kmod", "finds a kernel's modules"),
    need(&[Vm], Command("zstd"), "zstd", "unpacks kernels"),
    need(&[Vm], Command("lz4"), "lz4", "unpacks kernels"),
    need(&[Vm], Command("xz"), "xz-utils", "unpacks kernel modules"),
    need(&[Vm], Command("openssl"), "openssl", "certificates of the tests' cluster"),
    need(&[Vm, Containers], Command("mmdebstrap"), "mmdebstrap", "makes root file systems and images"),
    need(&[Containers], Command("containerd"), "containerd", "runs the demo's and the tests' pods"),
    need(&[Containers], Command("runc"), "runc", "starts containers"),
    need(&[Containers], Command("dockerd"), "docker.io", "runs the tests' containers that are in no pod"),
    need(&[Containers], Command("docker"), "docker.io", "runs the tests' containers that are in no pod"),
    need(&[Containers, Test], Command("crun"), "crun", "starts containers"),
    need(
        &[Containers],
        File(&["/usr/lib/cni/bridge", "/opt/cni/bin/bridge"]),
        "containernetworking-plugins",
        "gives pods addresses",
    ),
    need(&[Containers], Command("ip"), "iproute2", "sets up the pods' network namespace"),
    need(&[Containers, Test], Command("curl"), "curl", "sends requests to pods"),
    need(&[Bench], Command("gcc"), "gcc", "work with files"),
    need(&[Bench, Test], Command("strace"), "strace", "second witness of the calls a program makes"),
    need(&[Bench, Test], Command("tmux"), "tmux", "a terminal whose screen can be read"),
    need(&[Test], Command("nginx"), "nginx-light", "a workload"),
    need(&[Test], Command("redis-server"), "redis-server", "a workload"),
    need(&[Test], Command("redis-benchmark"), "redis-tools", "a workload"),
    need(&[Test], Command("python3"), "python3-minimal", "a workload"),
    need(&[Test], Command("git"), "git", "a workload"),
    need(
        &[Test],
        File(&["/usr/lib/python3/dist-packages/yaml/__init__.py"]),
        "python3-yaml",
        "reads the YAML that khard writes",
    ),
    need(&[Test], Command("apparmor_parser"), "apparmor", "compiles the profiles that tests write"),
];

const fn need(purposes: &'static [Purpose], probe: Probe, package: &'static str, why: &'static str) -> Need {
    Need { purposes, probe, package, why }
}

/// What is missing for these purposes, by the answer of `satisfied` for each probe.
pub(crate) fn missing(purposes: &[Purpose], satisfied: impl Fn(Probe) -> bool) -> Vec<&'static Need> {
    let wanted = |need: &&Need| need.purposes.iter().any(|purpose| purposes.contains(purpose));
    NEEDS.iter().filter(wanted).filter(|need| !satisfied(need.probe)).collect()
}

/// What bpf-linker's build needs from Debian for one LLVM.
pub(crate) fn linker_packages(llvm: u32) -> [String; 5] {
    [
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "zlib1g-dev".to_owned(),
        "libzstd-dev".to_owned(),
        "libxml2-dev".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(purposes: &[Purpose], there: &[&str]) -> Vec<&'static str> {
        let satisfied = |probe| match probe {
            Command(name) => there.contains(&name),
            File(paths) => paths.iter().any(|path| there.contains(path)),
        };
        missing(purposes, satisfied).iter().map(|need| need.package).collect()
    }

    #[test]
    fn only_what_the_purpose_needs_is_missing() {
        assert_eq!(packages(&[Build], &[]), ["gcc", "libc6-dev"]);
        assert_eq!(packages(&[Build], &["gcc", "/usr/include/features.h"]), [""; 0]);
        assert!(!packages(&[Vm], &[]).contains(&"containerd"));
    }

    #[test]
    fn any_of_a_needs_files_will_do() {
        let all = packages(&[Containers], &[]);
        assert!(all.contains(&"containernetworking-plugins"));
        assert!(!packages(&[Containers], &["/opt/cni/bin/bridge"]).contains(&"containernetworking-plugins"));
    }
}
