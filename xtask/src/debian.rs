//! Debian's archive: owns mirrors, suites, package lists of xtask's own and downloads from them. The machine's own apt
//! configuration is read for its mirrors and left as it is.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::CommandExt as _,
    paths::{Lock, Paths},
};

/// Where guests' and images' files come from: the suite of this machine if it is a Debian that is new enough, since
/// programs built here must run there.
pub(crate) fn suite() -> String {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some(id), Some(codename)) if id == "debian" && codename != "bullseye" => codename,
        _ => "bookworm".to_owned(),
    }
}

/// `sources.list` lines of a suite and its security updates; sid has none.
pub(crate) fn sources(suite: &str) -> Vec<String> {
    let Mirrors { main, security } = mirrors();
    let mut lines = vec![format!("deb {main} {suite} main")];
    if suite != "sid" {
        lines.push(format!("deb {security} {suite}-security main"));
    }
    lines
}

/// Of apt. Signatures count; that a mirror of a moving suite lags does no harm here.
const MAY_BE_OLD: &str = "Acquire::Check-Valid-Until";

/// The two mirrors that the archive is read from.
struct Mirrors {
    main: String,
    security: String,
}

fn mirrors() -> Mirrors {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"])
        .read_text()
        .unwrap_or_default();
    let suite = suite();
    let find = |codename: &str| {
        targets
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, name)| *name == codename)
            .map(|(uri, _)| uri.to_owned())
    };
    Mirrors {
        main: find(&suite).unwrap_or_else(|| "http://deb.debian.org/debian".to_owned()),
        security: find(&format!("{suite}-security"))
            .unwrap_or_else(|| "http://deb.debian.org/debian-security".to_owned()),
    }
}

/// apt with package lists of its own, for download only.
pub(crate) struct Archive {
    dir: PathBuf,
    /// One apt at a time can use the lists.
    _lock: Lock,
}

impl Archive {
    /// Of the suites that have kernels; refreshes the lists.
    pub(crate) fn of_kernels(paths: &Paths) -> Result<Self> {
        let mut lines = sources("bookworm");
        lines.push(format!("deb {} trixie-backports main", mirrors().main));
        Self::open(paths, "apt", &lines)
    }

    /// Of one suite; refreshes the lists.
    pub(crate) fn of_suite(paths: &Paths, suite: &str) -> Result<Self> {
        Self::open(paths, &format!("apt-{suite}"), &sources(suite))
    }

    /// Of one suite's programs and their sources; refreshes the lists.
    pub(crate) fn with_sources(paths: &Paths, suite: &str) -> Result<Self> {
        let mut lines = sources(suite);
        lines.push(format!("deb-src {} {suite} main", mirrors().main));
        Self::open(paths, &format!("apt-sources-{suite}"), &lines)
    }

    fn open(paths: &Paths, name: &str, lines: &[String]) -> Result<Self> {
        let archive = Self { dir: paths.state_dir(name)?, _lock: paths.lock(&format!("{name}/use"))? };
        fs::create_dir_all(archive.dir.join("lists/partial"))?;
        fs::write(archive.dir.join("sources.list"), lines.join("\n") + "\n")?;
        eprintln!("xtask: read Debian's package lists");
        archive.apt("apt-get").arg("update").read()?;
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.dir.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            // The folder is root's, which apt's own user could not write to.
            "APT::Sandbox::User=root".to_owned(),
            format!("{MAY_BE_OLD}=false"),
        ] {
            command.args(["-o", &option]);
        }
        command.arg("-qq");
        command
    }

    /// The names of packages that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = self.apt("apt-cache").args(["pkgnames", prefix]).read_text()?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The packages that hold a kernel package's files: itself and, since Debian's 6.19, the parts it depends on.
    /// `None` when a part has left the archive.
    pub(crate) fn parts(&self, package: &str) -> Result<Option<Vec<String>>> {
        let text = self.apt("apt-cache").args(["depends", package]).read_text()?;
        let mut parts = vec![package.to_owned()];
        for name in text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")) {
            // apt writes <NAME> for a package that no list has.
            let bare = name.trim_matches(['<', '>']);
            if ["linux-binary-", "linux-modules-", "linux-base-"].iter().any(|prefix| {
                bare.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(char::is_numeric))
            }) {
                if name.starts_with('<') {
                    return Ok(None);
                }
                parts.push(bare.to_owned());
            }
        }
        Ok(Some(parts))
    }

    /// Downloads a package and unpacks it into `tree`; nothing is installed.
    pub(crate) fn unpack(&self, package: &str, tree: &Path) -> Result<()> {
        let debs = self.dir.join(format!("debs-{package}"));
        let _ = fs::remove_dir_all(&debs);
        fs::create_dir_all(&debs)?;
        eprintln!("xtask: download {package}");
        self.apt("apt-get").args(["download", package]).current_dir(&debs).read()?;
        let deb = fs::read_dir(&debs)?.next().context("apt-get download left nothing")??.path();
        unpack_deb(&deb, tree)?;
        fs::remove_dir_all(&debs)?;
        Ok(())
    }

    /// Downloads a source package's files into `dir`, and unpacks nothing.
    pub(crate) fn source(&self, package: &str, dir: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(dir)?;
        eprintln!("xtask: download the source of {package}");
        self.apt("apt-get").args(["source", "--download-only", package]).current_dir(dir).read()?;
        Ok(fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect())
    }
}

/// Unpacks a package file into `tree`.
pub(crate) fn unpack_deb(deb: &Path, tree: &Path) -> Result<()> {
    Command::new("dpkg-deb").arg("-x").arg(deb).arg(tree).read()?;
    Ok(())
}

/// Makes a folder of a suite's packages; `variant` and further options are mmdebstrap's.
pub(crate) fn bootstrap(
    suite: &str,
    tree: &Path,
    variant: &str,
    packages: &[&str],
    options: &[&str],
) -> Result<()> {
    if tree.exists() {
        bail!("{} is in the way", tree.display());
    }
    Command::new("mmdebstrap")
        .args(["--quiet", "--mode=root", &format!("--variant={variant}")])
        .arg(format!("--include={}", packages.join(",")))
        .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*"])
        .arg(format!("--aptopt={MAY_BE_OLD} \"false\""))
        .args(options)
        .arg(suite)
        .arg(tree)
        .args(sources(suite))
        .read()?;
    Ok(())
}

/// Orders version numbers inside names as a person would: runs of digits by value, all else by character.
pub(crate) fn compare_versions(a: &str, b: &str) -> Ordering {
    fn pieces(text: &str) -> Vec<(u64, char)> {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let Some(mut value) = c.to_digit(10).map(u64::from) else {
                pieces.push((0, c));
                continue;
            };
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                value = value.saturating_mul(10).saturating_add(digit.into());
                chars.next();
            }
            pieces.push((value, '0'));
        }
        pieces
    }
    pieces(a).cmp(&pieces(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_value() {
        let mut names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-47-cloud-amd64",
        ];
        names.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(names.last(), Some(&"linux-image-6.1.0-56-cloud-amd64"), "a text order would say 9");
        assert_eq!(compare_versions("6.18.15+deb13", "7.2+deb13"), Ordering::Less);
        assert_eq!(compare_versions("7.2+deb13", "7.2+deb13"), Ordering::Equal);
    }
}
