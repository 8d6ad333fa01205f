//! `khard export`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use khard_profile::{
    escape::terminal,
    ship::{Bundle, Docker, KubeVersion, Kubernetes, Shipment, Workload},
};

use crate::{
    input,
    node::Kind,
    output::files::{OutDir, file_name},
    profiles::{SECCOMP_FILE, apparmor_file},
};

/// Writes the profiles that stand beside recordings in the forms that Kubernetes, Docker, Podman and Compose take.
///
/// Profiles come to the nodes first; the steps are printed in their order. What the recordings suggest beyond profiles (capabilities to
/// drop, a read-only root file system) goes to a file of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard export profiles-out/web --to kubernetes                 # one patch, with each container recorded there
  khard export profiles-out/web/nginx profiles-out/web/setup --init setup --to kubernetes -o deploy/khard
  khard export profiles-out/db --to kubernetes --workload statefulset/db --kube-version 1.27
  khard export profiles-out/web --to operator                   # resources of the security-profiles-operator
  khard export profiles-out/nginx --to docker

One workload at a time, with one recording of each container: unite replicas first (khard generate DIRS -o united).

Kubernetes below 1.30 names AppArmor profiles by annotation, which is written for such a --kube-version.")]
pub(super) struct Args {
    /// Folders that `khard trace` or `khard generate` has written, or folders of such folders
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// For whom
    #[arg(long, value_name = "FORM")]
    to: Form,
    /// Where to write; by default a folder with the form's name in the first DIR
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// What the pods belong to, if the recordings do not tell, such as `statefulset/db`
    #[arg(long, value_name = "KIND/NAME")]
    workload: Option<Workload>,
    /// This container is an init container (or a sidecar among them), which a recording cannot tell
    #[arg(long, value_name = "CONTAINER")]
    init: Vec<String>,
    /// Only profiles of this kind, such as where some of the nodes have no AppArmor
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,
    /// The cluster's version [default: 1.30]
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<KubeVersion>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// `--to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Files for the nodes, a patch of the pod template, and a kustomize component
    Kubernetes,
    /// The same, with profiles as resources of the security-profiles-operator; it says what its form of AppArmor's lacks
    Operator,
    /// Options for docker run and podman run, and a fragment for Compose
    Docker,
}

impl Form {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Operator => "operator",
            Self::Docker => "docker",
        }
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut shipments = Vec::new();
    for dir in &args.dirs {
        ensure!(!dir.is_file(), "{} is a file: name the folder that holds it", shown(dir));
        for recording in input::find_recordings(std::slice::from_ref(dir))? {
            shipments.push(
                shipment(&recording, args.only)
                    .with_context(|| format!("cannot export {}", shown(&recording)))?,
            );
        }
    }
    let out = match (&args.output, args.dirs.first()) {
        (Some(out), _) => out.clone(),
        (None, Some(first)) => first.join(args.to.as_str()),
        (None, None) => bail!("no DIR is named"),
    };
    let bundle = bundle(args, shipments, &out)?;
    write(&bundle, &OutDir::open(&out)?, args.to)?;
    let mut stdout = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut stdout, &bundle).map_err(std::io::Error::from)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{}", text(&bundle, &out))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn bundle(args: &Args, shipments: Vec<Shipment>, out: &Path) -> Result<Bundle> {
    if args.to == Form::Docker {
        let is_for_kubernetes =
            args.workload.is_some() || !args.init.is_empty() || args.kube_version.is_some();
        ensure!(
            !is_for_kubernetes,
            "--workload, --init and --kube-version have no meaning with --to docker: leave them out"
        );
        return Ok(Docker::new(shipments)?.bundle(out));
    }
    let version = match args.kube_version {
        Some(version) => version,
        None => "1.30".parse()?,
    };
    let by_operator = args.to == Form::Operator;
    Ok(Kubernetes::new(shipments, args.workload.clone(), &args.init, version, by_operator)?.bundle(out)?)
}

fn shipment(recording: &Path, only: Option<Kind>) -> Result<Shipment> {
    let (file, recording) = input::recording(recording)?;
    let read = |name: &str, kind: Kind| {
        let path = file.with_file_name(name);
        let is_wanted = only.is_none_or(|only| only == kind);
        (is_wanted && path.exists()).then(|| input::read_limited(&path)).transpose()
    };
    let (seccomp, apparmor) =
        (read(SECCOMP_FILE, Kind::Seccomp)?, read(&apparmor_file(recording.subject()), Kind::Apparmor)?);
    Ok(Shipment::new(&recording, seccomp, apparmor)?)
}

/// Files that an earlier export may have written and this one does not: they would pass for this one's.
const OPTIONAL: [&str; 4] =
    ["suggestions.yaml", "seccompprofiles.yaml", "apparmorprofiles.yaml", "compose.suggestions.yaml"];

/// Where an export for Kubernetes puts profiles; what an earlier one has put there would be taken to the nodes as well.
const FOR_NODES: [&str; 2] = ["seccomp", "apparmor"];

fn write(bundle: &Bundle, out: &OutDir, form: Form) -> Result<()> {
    for name in OPTIONAL {
        out.remove(name);
    }
    for kind in FOR_NODES.iter().filter(|_| form != Form::Docker) {
        let Ok(earlier) = out.path().join("nodes").join(kind).read_dir() else { continue };
        let dir = out.subdir("nodes")?.subdir(kind)?;
        let names = earlier.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("khard-")).for_each(|name| dir.remove(&name));
    }
    for file in &bundle.files {
        match file.path.as_slice() {
            [name] => drop(out.write(&file_name(name), &file.content)?),
            [folders @ .., name] => {
                let mut dir: Option<OutDir> = None;
                for folder in folders {
                    dir = Some(dir.as_ref().unwrap_or(out).subdir(folder)?);
                }
                dir.as_ref().unwrap_or(out).write(&file_name(name), &file.content)?;
            }
            [] => {}
        }
    }
    Ok(())
}

fn text(bundle: &Bundle, out: &Path) -> String {
    let mut lines = vec![bundle.title.clone()];
    let indented = |label: &str, what: &String| format!("  {label:<9} {what}");
    lines.extend(bundle.contents.iter().map(|what| format!("  {what}")));
    lines.extend(bundle.warnings.iter().map(|what| indented("warning", what)));
    lines.push(indented("written", &shown(out)));
    lines.push("Do this, in this order:".to_owned());
    lines.extend(bundle.steps.iter().enumerate().map(|(nth, step)| format!("  {}. {step}", nth + 1)));
    lines.push(String::new());
    lines.join("\n")
}

fn shown(path: &Path) -> String {
    terminal(path.as_os_str().as_encoded_bytes())
}
