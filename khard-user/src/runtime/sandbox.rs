//! Workloads that do not run on the host's kernel: there khard would record the sandbox, and call it the workload.
//!
//! Owns how they are recognised. Asks nobody.
use std::{fmt, path::Path};

/// What stands between the workload and the host's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxKind {
    /// gVisor's user-space kernel.
    Gvisor,
    /// A virtual machine of Kata Containers.
    Kata,
    /// A virtual machine of libkrun.
    Krun,
    /// A WebAssembly engine.
    Wasm,
}

/// A sandbox, and by what it was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Which kind.
    pub kind: SandboxKind,
    /// The words that gave it away.
    pub evidence: String,
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SandboxKind::Gvisor => "gVisor",
            SandboxKind::Kata => "Kata Containers",
            SandboxKind::Krun => "libkrun",
            SandboxKind::Wasm => "WebAssembly",
        };
        write!(f, "{kind}, by its {}", self.evidence.escape_debug())
    }
}

/// What is known about how a container runs. Unknown is empty.
#[derive(Debug, Default)]
pub(super) struct Clues<'a> {
    /// The pod's runtime handler.
    pub(super) handler: &'a str,
    /// containerd's runtime type.
    pub(super) runtime_type: &'a str,
    /// The OCI runtime's file.
    pub(super) binary: Option<&'a Path>,
    /// The file that the container's "first process" runs.
    pub(super) exe: Option<&'a Path>,
    /// The OCI annotations.
    pub(super) annotations: Vec<(&'a str, &'a str)>,
}

/// Words in a runtime's type, handler or file name. The engines of containerd's Wasm shims are in
/// <https://github.com/containerd/runwasi> and <https://github.com/spinkube/containerd-shim-spin>.
const WORDS: [(&str, SandboxKind); 10] = [
    ("runsc", SandboxKind::Gvisor),
    ("gvisor", SandboxKind::Gvisor),
    ("kata", SandboxKind::Kata),
    ("krun", SandboxKind::Krun),
    ("wasm", SandboxKind::Wasm),
    ("wasmedge", SandboxKind::Wasm),
    ("wasmtime", SandboxKind::Wasm),
    ("wws", SandboxKind::Wasm),
    ("spin", SandboxKind::Wasm),
    ("slight", SandboxKind::Wasm),
];

/// The sandbox that the clues tell of, if any.
pub(super) fn detect(clues: &Clues<'_>) -> Option<Sandbox> {
    let file_name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    // A handler's name is anybody's choice: it counts where nothing better is known.
    let handler = if clues.runtime_type.is_empty() && clues.binary.is_none() { clues.handler } else { "" };
    let named = [
        ("runtime type", clues.runtime_type.to_owned()),
        ("OCI runtime", file_name(clues.binary)),
        ("runtime handler", handler.to_owned()),
    ];
    for (what, text) in named {
        if let Some(kind) = kind_of(&text) {
            return Some(Sandbox { kind, evidence: format!("{what} {text}") });
        }
    }
    // A sandbox that hides behind an ordinary name still runs its own program where the workload should be.
    let exe = file_name(clues.exe);
    for (start, kind) in [("runsc", SandboxKind::Gvisor), ("containerd-shim-kata", SandboxKind::Kata)] {
        if exe.starts_with(start) {
            return Some(Sandbox { kind, evidence: format!("process {exe}") });
        }
    }
    // crun decides by these (crun(1), run.oci.handler and module.wasm.image/variant).
    clues.annotations.iter().find_map(|&(key, value)| {
        let kind = match key {
            "run.oci.handler" => kind_of(value),
            "module.wasm.image/variant" => value.starts_with("compat").then_some(SandboxKind::Wasm),
            _ => None,
        }?;
        Some(Sandbox { kind, evidence: format!("annotation {key}={value}") })
    })
}

fn kind_of(text: &str) -> Option<SandboxKind> {
    text.split(['.', '-', '_'])
        .find_map(|part| WORDS.iter().find(|(word, _)| part == *word).map(|&(_, kind)| kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(clues: &Clues<'_>) -> Option<SandboxKind> {
        detect(clues).map(|s| s.kind)
    }

    #[test]
    fn sandboxes_are_recognised_by_any_one_clue() {
        use SandboxKind::{Gvisor, Kata, Krun, Wasm};
        let of_type = |runtime_type| Clues { runtime_type, ..Clues::default() };
        let of_handler = |handler| Clues { handler, ..Clues::default() };
        let of_binary = |path| Clues { binary: Some(Path::new(path)), ..Clues::default() };
        let of_exe = |path| Clues { exe: Some(Path::new(path)), ..Clues::default() };
        let annotated = |key, value| Clues { annotations: vec![(key, value)], ..Clues::default() };
        let cases = [
            (of_type("io.containerd.runsc.v1"), Gvisor),
            (of_type("io.containerd.kata.v2"), Kata),
            (of_type("io.containerd.kata-qemu.v2"), Kata),
            (of_type("io.containerd.spin.v2"), Wasm),
            (of_type("io.containerd.wasmtime.v1"), Wasm),
            (of_handler("kata-qemu"), Kata),
            (of_handler("gvisor"), Gvisor),
            (of_binary("/usr/bin/crun-wasm"), Wasm),
            (of_binary("/usr/local/bin/runsc"), Gvisor),
            (of_exe("/usr/local/bin/runsc"), Gvisor),
            (of_exe("/opt/kata/bin/containerd-shim-kata-v2"), Kata),
            (annotated("run.oci.handler", "wasm"), Wasm),
            (annotated("run.oci.handler", "krun"), Krun),
            (annotated("module.wasm.image/variant", "compat-smart"), Wasm),
        ];
        for (clues, expected) in cases {
            assert_eq!(kind(&clues), Some(expected), "{clues:?}");
        }
    }

    #[test]
    fn ordinary_containers_are_no_sandboxes() {
        let plain = Clues {
            handler: "kata-migration-test",
            runtime_type: "io.containerd.runc.v2",
            binary: Some(Path::new("/usr/bin/crun")),
            exe: Some(Path::new("/usr/bin/qemu-system-x86_64")),
            annotations: vec![("run.oci.handler", "none"), ("module.wasm.image/other", "compat")],
        };
        assert_eq!(kind(&plain), None);
        assert_eq!(kind(&Clues::default()), None);
        assert_eq!(kind(&Clues { handler: "spinnaker", ..Clues::default() }), None);
    }
}
