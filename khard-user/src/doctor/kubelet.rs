//! Kubelets on this machine: where Localhost seccomp profiles go, and whether pods get a filter by default.
//!
//! Owns finding the process and reading its options and configuration. Asks no API server.
use super::Finding;
use serde::Serialize;
use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// A kubelet that runs, or the folder of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KubeletFacts {
    /// Its process, if it runs.
    pub(crate) pid: Option<u32>,
    /// Where Localhost profiles are looked for, as this process sees it.
    pub(crate) seccomp_root: PathBuf,
    /// Whether that folder is there.
    pub(crate) seccomp_root_exists: bool,
    /// Whether pods that ask for nothing get the runtime's own filter (`seccompDefault`).
    pub(crate) seccomp_default: Finding<bool>,
}

/// Roots of kubelets that do not run now: kubeadm's and k3s's, and that of microk8s's snap.
pub(crate) const KNOWN_ROOTS: [&str; 2] = ["/var/lib/kubelet", "/var/snap/microk8s/common/var/lib/kubelet"];

/// Programs that are a kubelet, or hold one: its own, k3s's and RKE2's, microk8s's.
const KUBELETS: [&str; 6] = ["kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "kubelite"];

impl KubeletFacts {
    /// Those that run, and the folders of others.
    pub(crate) fn gather() -> Vec<Self> {
        let mut found: Vec<_> =
            processes().map(|(pid, arguments)| Self::of_process(pid, &arguments)).collect();
        for root in KNOWN_ROOTS.map(PathBuf::from) {
            let seccomp_root = root.join("seccomp");
            if root.is_dir() && found.iter().all(|kubelet| kubelet.seccomp_root != seccomp_root) {
                found.push(Self {
                    pid: None,
                    seccomp_root_exists: seccomp_root.is_dir(),
                    seccomp_root,
                    seccomp_default: Finding::Unknown("no kubelet runs".to_owned()),
                });
            }
        }
        found
    }

    fn of_process(pid: u32, arguments: &[String]) -> Self {
        // Its paths are those of its own mount namespace.
        let inside = |path: &str| {
            let proc_root = PathBuf::from(format!("/proc/{pid}/root"));
            let is_ours = fs::read_link(&proc_root).is_ok_and(|root| root == Path::new("/"));
            let same_mounts =
                fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == fs::read_link("/proc/self/ns/mnt").ok();
            if is_ours && same_mounts {
                PathBuf::from(path)
            } else {
                proc_root.join(path.trim_start_matches('/'))
            }
        };
        let read = |path: &str| fs::read_to_string(inside(path)).ok();
        let arguments = with_argument_file(arguments, &read);
        let seccomp_root =
            inside(&option(&arguments, "root-dir").unwrap_or("/var/lib/kubelet".into())).join("seccomp");
        Self {
            pid: Some(pid),
            seccomp_root_exists: seccomp_root.is_dir(),
            seccomp_root,
            seccomp_default: seccomp_default(&arguments, &read),
        }
    }
}

/// Process ids and arguments of all kubelets.
fn processes() -> impl Iterator<Item = (u32, Vec<String>)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let arguments: Vec<_> = line
            .split(|&b| b == 0)
            .map(|a| OsString::from_vec(a.to_vec()).to_string_lossy().into_owned())
            .collect();
        is_kubelet(&arguments).then_some((pid, arguments))
    })
}

/// By the program's name; k3s writes its own title over its arguments ("/usr/local/bin/k3s server").
fn is_kubelet(arguments: &[String]) -> bool {
    let mut words = arguments.iter().flat_map(|argument| argument.split(' '));
    let program = words.next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let verb = words.next().unwrap_or_default();
    match program {
        // Only these verbs run a node; others are tools like `k3s kubectl`.
        "k3s" | "rke2" => matches!(verb, "server" | "agent"),
        program => KUBELETS.contains(&program),
    }
}

/// microk8s keeps kubelet's options in a file (`--kubelet-args-file`), and k3s in its own configuration
/// (`kubelet-arg`), one `name=value` in a line.
fn with_argument_file(arguments: &[String], read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut all = arguments.to_vec();
    if let Some(text) = option(arguments, "kubelet-args-file").and_then(|file| read(&file)) {
        all.extend(text.split_whitespace().map(str::to_owned));
    }
    if let Some(text) = read("/etc/rancher/k3s/config.yaml").or_else(|| read("/etc/rancher/rke2/config.yaml"))
    {
        let values = text.lines().map(|line| line.trim().trim_start_matches("- ").trim_matches(['"', '\'']));
        all.extend(values.map(|value| format!("--{}", value.trim_start_matches("--"))));
    }
    // On k3s's command line: `--kubelet-arg=seccomp-default=true`.
    let nested: Vec<_> =
        all.iter().filter_map(|a| a.strip_prefix("--kubelet-arg=")).map(|a| format!("--{a}")).collect();
    all.extend(nested);
    all
}

/// The value of `--name=value` or `--name value`, the last one; a lone `--name` is `true`.
fn option(arguments: &[String], name: &str) -> Option<String> {
    let at = arguments.iter().rposition(|argument| {
        argument
            .strip_prefix("--")
            .and_then(|a| a.strip_prefix(name))
            .is_some_and(|a| a.is_empty() || a.starts_with('='))
    })?;
    if let Some((_, value)) = arguments[at].split_once('=') {
        return Some(value.to_owned());
    }
    let next = arguments.get(at + 1).filter(|next| !next.is_empty() && !next.starts_with("--"));
    Some(next.cloned().unwrap_or_else(|| "true".to_owned()))
}

/// Options win over the configuration, and drop-in files over the main one (kubelet's own order).
fn seccomp_default(arguments: &[String], read: &dyn Fn(&str) -> Option<String>) -> Finding<bool> {
    if let Some(value) = option(arguments, "seccomp-default") {
        return Finding::Known(value == "true");
    }
    if let Some(folder) = option(arguments, "config-dir") {
        return Finding::Unknown(format!("it may be set in a file of {folder}"));
    }
    let Some(file) = option(arguments, "config") else { return Finding::Known(false) };
    match read(&file) {
        Some(text) => Finding::Known(configured_default(&text)),
        None => Finding::Unknown(format!("{file} cannot be read")),
    }
}

/// `seccompDefault` of a `KubeletConfiguration`: a key of the top level, in YAML or JSON.
fn configured_default(text: &str) -> bool {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        return json.get("seccompDefault") == Some(&true.into());
    }
    let value = |line: &str| {
        let value = line.strip_prefix("seccompDefault")?.trim_start().strip_prefix(':')?;
        Some(value.split('#').next().unwrap_or_default().trim() == "true")
    };
    text.lines().find_map(value).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn kubelets_are_told_from_their_tools() {
        for line in
            ["/usr/bin/kubelet --config=/x", "/usr/local/bin/k3s server", "k3s-server", "/snap/kubelite --a"]
        {
            assert!(is_kubelet(&words(line)), "{line}");
        }
        assert!(is_kubelet(&["/usr/local/bin/k3s server".to_owned()]), "a title in one word");
        for line in ["k3s kubectl get pods", "vi kubelet", "kubelet-wrapper", ""] {
            assert!(!is_kubelet(&words(line)), "{line}");
        }
    }

    #[test]
    fn options_are_read_in_both_forms_and_the_last_one_counts() {
        let arguments = words("kubelet --root-dir /a --seccomp-default --root-dir=/b --root-dirs=/c");
        assert_eq!(option(&arguments, "root-dir").as_deref(), Some("/b"));
        assert_eq!(option(&arguments, "seccomp-default").as_deref(), Some("true"));
        assert_eq!(option(&arguments, "config"), None);
    }

    #[test]
    fn the_default_filter_is_found_in_options_files_and_wrappers() {
        let read = |path: &str| match path {
            "/yaml" => Some(
                "apiVersion: v1\nfeatures:\n  seccompDefault: false\nseccompDefault: true # all\n".to_owned(),
            ),
            "/json" => Some(r#"{"seccompDefault": true}"#.to_owned()),
            "/none" => Some("nested:\n  seccompDefault: true\n".to_owned()),
            "/args" => Some("--config=/none\n--seccomp-default=true\n".to_owned()),
            _ => None,
        };
        let of = |line: &str| seccomp_default(&with_argument_file(&words(line), &read), &read);
        assert_eq!(of("kubelet --seccomp-default=true --config=/none"), Finding::Known(true));
        assert_eq!(of("kubelet --seccomp-default=false --config=/yaml"), Finding::Known(false));
        assert_eq!(of("kubelet --config /yaml"), Finding::Known(true));
        assert_eq!(of("kubelet --config=/json"), Finding::Known(true));
        assert_eq!(of("kubelet --config=/none"), Finding::Known(false));
        assert_eq!(of("kubelet"), Finding::Known(false));
        assert_eq!(of("kubelite --kubelet-args-file=/args"), Finding::Known(true));
        assert_eq!(of("k3s server --kubelet-arg=seccomp-default=true"), Finding::Known(true));
        assert!(matches!(of("kubelet --config=/gone"), Finding::Unknown(_)));
        assert!(matches!(of("kubelet --config-dir=/d"), Finding::Unknown(_)));
    }
}
