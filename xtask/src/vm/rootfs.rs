//! The root file system of guests: owns what is in it. Made without mounting anything, from Debian's packages and the
//! images of `containers`, which are imported once here rather than at every boot.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use crate::{
    command::CommandExt as _,
    containers::{config, images},
    debian::{self, Archive},
    paths::Paths,
};

const PACKAGES: &[&str] = &[
    // containers
    "containerd",
    "runc",
    "crun",
    "containernetworking-plugins",
    "libseccomp2",
    "seccomp",
    // AppArmor
    "apparmor",
    "apparmor-utils",
    // witnesses
    "strace",
    "bpftool",
    "auditd",
    // workloads
    "nginx-light",
    "redis-server",
    "redis-tools",
    "busybox-static",
    "python3",
    "git",
    "gcc",
    "libc6-dev",
    "musl-tools",
    "postgresql",
    // a system to work in
    "iproute2",
    "kmod",
    "jq",
    "procps",
    "psmisc",
    "curl",
    "netcat-openbsd",
    "less",
    "file",
    "util-linux",
    "tmux",
];
/// Else the package of `PostgreSQL` makes a cluster, which no test uses.
const NO_CLUSTER: &str = "mkdir -p \"$1/etc/postgresql-common\" && echo 'create_main_cluster = false' > \"$1/etc/postgresql-common/createcluster.conf\"";
/// What the server inlines into what it compiles at run time, 60 MB: no test asks for so much.
const NO_BITCODE: &str = "--dpkgopt=path-exclude=/usr/lib/postgresql/*/lib/bitcode/*";
const SIZE_MIB: u32 = 3072;
const START_CONTAINERD: &str = include_str!("../../guest/khard-containerd");

/// Packages of guests that a suite does not have.
pub(crate) fn absent(paths: &Paths, suite: &str) -> Result<Vec<&'static str>> {
    let names: BTreeSet<String> = Archive::of_suite(paths, suite)?.names("")?.into_iter().collect();
    Ok(PACKAGES.iter().copied().filter(|package| !names.contains(*package)).collect())
}

/// The image of the root file system, of a suite of Debian's; made when it is not there or its recipe has changed.
pub(crate) fn image(paths: &Paths, suite: &str) -> Result<PathBuf> {
    let images = images::archive(paths)?;
    let dir = paths.state_dir("rootfs")?;
    let _lock = paths.lock("rootfs/make")?;
    let config = config::containerd(&config::Config {
        cni_conf_dir: Path::new("/etc/cni/net.d"),
        cni_bin_dir: Path::new("/usr/lib/cni"),
        restrict_oom_score_adj: false,
    });
    let network = config::network(Path::new("/var/lib/cni/networks"));
    // Another suite than the machine's is taken for what is in it today.
    let month = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / (30 * 24 * 60 * 60);
    let month = (suite != debian::suite()).then_some(month);
    let mut recipe = DefaultHasher::new();
    (PACKAGES, NO_CLUSTER, NO_BITCODE, suite, month, &config, &network, START_CONTAINERD, &images)
        .hash(&mut recipe);
    let image = dir.join(format!("{suite}-{:016x}.ext4", recipe.finish()));
    if image.exists() {
        return Ok(image);
    }

    eprintln!("xtask: make the guests' root file system (about a minute)");
    for entry in fs::read_dir(&dir)?.flatten() {
        // Older ones, and the rest of a run that was ended. A running guest keeps the image that it has open.
        let path = entry.path();
        let is_of_suite = entry.file_name().to_string_lossy().starts_with(&format!("{suite}-"));
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ext4") if is_of_suite => fs::remove_file(path)?,
            Some("new") => fs::remove_file(path)?,
            _ if path.is_dir() => fs::remove_dir_all(path)?,
            _ => {}
        }
    }
    let tree = dir.join("tree");
    debian::bootstrap(suite, &tree, "minbase", PACKAGES, &["--essential-hook", NO_CLUSTER, NO_BITCODE])?;
    let put = |path: &str, text: &str, mode: u32| -> Result<()> {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        Ok(())
    };
    put("etc/containerd/config.toml", &config, 0o644)?;
    put("etc/cni/net.d/10-khard.conflist", &network, 0o644)?;
    put("usr/local/bin/khard-containerd", START_CONTAINERD, 0o755)?;
    put("etc/hostname", "khard\n", 0o644)?;
    put("etc/hosts", "127.0.0.1 localhost khard\n", 0o644)?;
    import_images(&tree, &images)?;
    let new = dir.join("root.new");
    Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "khard", "-d"])
        .args([&tree, &new])
        .arg(format!("{SIZE_MIB}M"))
        .read()?;
    fs::remove_dir_all(&tree)?;
    fs::rename(&new, &image)?;
    Ok(image)
}

/// Imports the images with the tree's own containerd, in namespaces that end with it.
fn import_images(tree: &Path, images: &Path) -> Result<()> {
    fs::copy(images, tree.join("images.tar"))?;
    // Without CRI, which would want a network.
    let script = r#"
        mount -t proc proc /proc
        mount -t tmpfs tmpfs /run
        cri='"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images",'
        sed "s/^disabled_plugins = \[/&$cri/" /etc/containerd/config.toml > /run/config.toml
        containerd -c /run/config.toml > /run/log 2>&1 & pid=$!
        for try in $(seq 300); do ctr version > /dev/null 2>&1 && break; sleep 0.1; done
        ctr -n k8s.io image import /images.tar || { cat /run/log >&2; exit 1; }
        kill $pid
        wait $pid || true"#;
    Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "chroot"])
        .arg(tree)
        .args(["/bin/bash", "-euc", script])
        .read()?;
    fs::remove_file(tree.join("images.tar"))?;
    Ok(())
}
