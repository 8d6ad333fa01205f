//! Kubernetes' own programs, from Debian's source package: owns how they are built and where they are kept. Nothing is installed.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command::CommandExt as _, debian::Archive, paths::Paths};

/// Of the source package in Debian 12, the last Debian that has one.
const VERSION: &str = "1.20.2";
/// Built from it.
const PROGRAMS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
/// A compiler of its age, with etcd, and with the library below.
const PACKAGES: [&str; 4] =
    ["golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev", "etcd-server"];
const GO: &str = "usr/lib/go-1.19";
/// Its 1.0.1, which the source package holds, crashes when built with Go 1.18 or later; Debian's own package of it does not.
const REFLECT: &str = "github.com/modern-go/reflect2";
/// Writes the one generated file that the source package lacks, as its `Makefile.generated_files` does. `$1`: the generator.
const OPENAPI: &str = r"
generator=$1
dirs=$({ find -L vendor/k8s.io -name '*.go' -type f ! -path '*/k8s.io/*/vendor/*'; find pkg cmd plugin -name '*.go' -type f; } |
    xargs grep -lE '^// *\+k8s:' | grep -vE '^vendor/k8s.io/(code-generator|sample-apiserver|gengo|kube-openapi)/' |
    xargs grep -l '+k8s:openapi-gen=' | xargs -n1 dirname | LC_ALL=C sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd,)
$generator --logtostderr -i $dirs -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r $generator.violations
diff $generator.violations api/api-rules/violation_exceptions.list
";

/// The folder with [`PROGRAMS`] and `etcd`; built when it is not there, which takes two CPUs some minutes and 3 GB meanwhile.
pub(super) fn dir(paths: &Paths) -> Result<PathBuf> {
    let parent = paths.state_dir("kubernetes")?;
    let dir = parent.join(format!("bin-{VERSION}"));
    let _lock = paths.lock("kubernetes/build")?;
    if dir.exists() {
        return Ok(dir);
    }
    eprintln!("xtask: build Kubernetes {VERSION} from Debian's source package (five to ten minutes)");
    let work = parent.join("build");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let (tree, bin) = (work.join("tree"), work.join("bin"));
    fs::create_dir_all(&bin)?;
    let archive = Archive::with_sources(paths, "bookworm")?;
    let source = archive.source("kubernetes", &work.join("source"))?;
    for package in PACKAGES {
        archive.unpack(package, &tree)?;
    }
    drop(archive);
    let kubernetes = work.join("go/src/k8s.io/kubernetes");
    fs::create_dir_all(&kubernetes)?;
    let tar = source.iter().find(|file| file.to_string_lossy().contains(".orig.tar"));
    Command::new("tar")
        .args(["--strip-components=1", "-xf"])
        .arg(tar.context("the source package has no archive")?)
        .arg("-C")
        .arg(&kubernetes)
        .read()?;
    replace_reflect(&kubernetes, &tree)?;

    let go = Go { work: &work, tree: &tree, source: &kubernetes };
    let generator = work.join("openapi-gen");
    go.build("./vendor/k8s.io/kube-openapi/cmd/openapi-gen", &generator)?;
    go.command("bash").args(["-euo", "pipefail", "-c", OPENAPI, "bash"]).arg(&generator).read()?;
    for program in PROGRAMS {
        eprintln!("xtask: build {program}");
        go.build(&format!("./cmd/{program}"), &bin.join(program))?;
    }
    fs::copy(tree.join("usr/bin/etcd"), bin.join("etcd")).context("etcd")?;
    fs::rename(&bin, &dir)?;
    fs::remove_dir_all(&work)?;
    Ok(dir)
}

fn replace_reflect(kubernetes: &Path, tree: &Path) -> Result<()> {
    let (old, new) =
        (kubernetes.join("vendor").join(REFLECT), tree.join("usr/share/gocode/src").join(REFLECT));
    let is_code = |path: &Path| path.extension().is_some_and(|kind| kind == "go" || kind == "s");
    for entry in fs::read_dir(&old)?.flatten().filter(|entry| is_code(&entry.path())) {
        fs::remove_file(entry.path())?;
    }
    for entry in fs::read_dir(&new)?.flatten().filter(|entry| is_code(&entry.path())) {
        fs::copy(entry.path(), old.join(entry.file_name()))?;
    }
    Ok(())
}

/// The compiler, which looks nowhere but here.
struct Go<'a> {
    work: &'a Path,
    tree: &'a Path,
    source: &'a Path,
}

impl Go<'_> {
    fn command(&self, program: &str) -> Command {
        let root = self.tree.join(GO);
        let mut path = OsString::from(root.join("bin"));
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command
            .current_dir(self.source)
            .env("PATH", path)
            .env("GOROOT", root)
            .env("GOPATH", self.work.join("go"))
            .env("GOCACHE", self.work.join("cache"))
            .env("GOENV", "off")
            .env("GO111MODULE", "off")
            .env("GOPROXY", "off")
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", "0");
        command
    }

    fn build(&self, package: &str, out: &Path) -> Result<()> {
        let mut flags = "-s -w".to_owned();
        // What the programs say they are; the package's own build takes it from git.
        for place in ["component-base/version", "client-go/pkg/version"] {
            let set = format!(" -X k8s.io/kubernetes/vendor/k8s.io/{place}");
            let _ = write!(
                flags,
                "{set}.gitVersion=v{VERSION}{set}.gitMajor=1{set}.gitMinor=20{set}.gitTreeState=clean{set}.buildDate=2021-01-13T13:20:00Z"
            );
        }
        self.command("go")
            .args(["build", "-trimpath", "-tags", "providerless dockerless", "-ldflags", &flags, "-o"])
            .arg(out)
            .arg(package)
            .run()
    }
}
