//! What it costs to see accesses: work with files, by a process of its own in a cgroup of its own, with nothing attached, with
//! khard for system calls only, with an empty program besides where files are opened, and with all of khard.
//!
//! Owns how it is measured, and the work. Everything is loaded and attached anew for each cell.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use khard_common::{access::decode, stats};
use khard_profile::recording::Attachment;
use khard_tests::draw::Draw;
use khard_user::{
    bpf::{AttachChoice, AttachPlan, Bpf, KernelVersion, SlotNumber, Watched},
    cgroup::{CgroupTree, OwnCgroup},
};
use serde::Serialize;

/// Work with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// One file is opened again and again.
    One,
    /// A hundred thousand files are opened, and all of them again.
    Many,
    /// `find /usr`, twice.
    Find,
    /// A C program of twenty files is compiled.
    Compile,
}

const N_OPENS: u32 = 50_000;
const N_FILES: u32 = 100_000;
const N_SOURCES: u32 = 20;

impl Work {
    const ALL: [Self; 4] = [Self::One, Self::Many, Self::Find, Self::Compile];

    /// Does it; ns for a file, or for all of it, by stretch.
    pub(crate) fn run(self, dir: &Path) -> Result<BTreeMap<&'static str, f64>> {
        let mut took = BTreeMap::new();
        match self {
            Self::One => {
                let path = dir.join("0/0");
                let open = || File::open(&path).map(drop);
                open()?;
                took.insert("one file, again", each(N_OPENS, |_| open())?);
            }
            Self::Many => {
                let open = |nth: u32| File::open(file(dir, nth)).map(drop);
                took.insert("100,000 files, first", each(N_FILES, open)?);
                took.insert("100,000 files, again", each(N_FILES, open)?);
            }
            Self::Find => {
                for stretch in ["find /usr, first", "find /usr, again"] {
                    took.insert(stretch, whole(Command::new("find").args(["/usr", "-xdev"]))?);
                }
            }
            Self::Compile => {
                let sources = (0..N_SOURCES).map(|nth| dir.join(format!("{nth}.c")));
                let mut gcc = Command::new("gcc");
                gcc.args(["-O1", "-o"]).arg(dir.join("program")).args(sources);
                took.insert("compile 20 files", whole(&mut gcc)?);
            }
        }
        Ok(took)
    }
}

/// A hundred files in a directory, as a program would have them.
fn file(dir: &Path, nth: u32) -> std::path::PathBuf {
    dir.join((nth / 100).to_string()).join((nth % 100).to_string())
}

fn each(n: u32, act: impl Fn(u32) -> std::io::Result<()>) -> Result<f64> {
    let start = Instant::now();
    (0..n).try_for_each(act)?;
    Ok(start.elapsed().as_nanos() as f64 / f64::from(n))
}

fn whole(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(start.elapsed().as_nanos() as f64)
}

/// What is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Nothing,
    Calls,
    Empty(AttachChoice),
    Khard(AttachChoice),
}

impl Row {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Calls => "calls".to_owned(),
            Self::Empty(by) => format!("empty {}", means(by)),
            Self::Khard(by) => format!("khard {}", means(by)),
        }
    }
}

fn means(choice: AttachChoice) -> &'static str {
    match choice {
        AttachChoice::Lsm => Attachment::Lsm.as_str(),
        AttachChoice::Fexit => Attachment::Fexit.as_str(),
        _ => Attachment::Syscall.as_str(),
    }
}

/// Stretch, then row.
type Figures = BTreeMap<String, BTreeMap<String, f64>>;

#[derive(Serialize)]
pub(crate) struct Report {
    /// The means by which accesses can be seen here.
    means: Vec<&'static str>,
    /// ns for a file, or for all of the work.
    rounds: Vec<Figures>,
    /// Of the accesses in each work that were not the first of theirs, the share that ended in the kernel, in the last round; by row.
    in_kernel: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Measures by some of the means, and tells every round.
pub(crate) fn measure(n_rounds: usize, by: &[String]) -> Result<Report> {
    let bench = Bench::new(by)?;
    let mut rows = vec![Row::Nothing, Row::Calls];
    rows.extend(bench.means.iter().flat_map(|by| [Row::Empty(*by), Row::Khard(*by)]));
    let (mut rounds, mut in_kernel) = (Vec::new(), BTreeMap::<String, BTreeMap<String, f64>>::new());
    let mut draw = Draw::new(1);
    for n_done in 0..n_rounds {
        let mut round = Figures::new();
        for at in draw.different(rows.len(), rows.len()) {
            for work in Work::ALL {
                let (took, share) = bench.cell(rows[at], work)?;
                for (stretch, ns) in took {
                    round.entry(stretch).or_default().insert(rows[at].name(), ns);
                }
                if let Some(share) = share {
                    in_kernel.entry(format!("{work:?}")).or_default().insert(rows[at].name(), share);
                }
            }
        }
        rounds.push(round);
        eprint!("\rbench: {} of {n_rounds} rounds with files", n_done + 1);
    }
    eprintln!();
    Ok(Report { means: bench.means.iter().map(|by| means(*by)).collect(), rounds, in_kernel })
}

struct Bench {
    tree: CgroupTree,
    kernel: KernelVersion,
    means: Vec<AttachChoice>,
    files: tempfile::TempDir,
}

/// What a work's process measured of itself.
type Took = Vec<(String, f64)>;

impl Bench {
    fn new(by: &[String]) -> Result<Self> {
        let kernel = KernelVersion::running().context("the kernel's release is no version")?;
        let files = tempfile::tempdir()?;
        for nth in 0..N_FILES {
            let path = file(files.path(), nth);
            if nth % 100 == 0 {
                fs::create_dir(path.parent().context("a folder")?)?;
            }
            File::create(path)?;
        }
        for nth in 0..N_SOURCES {
            let main = if nth == 0 { "int main(void) { return 0; }" } else { "" };
            let text =
                format!("#include <stdio.h>\nint part{nth}(void) {{ return puts(\"{nth}\"); }}\n{main}\n");
            fs::write(files.path().join(format!("{nth}.c")), text)?;
        }
        let mut bench = Self { tree: CgroupTree::find()?, kernel, means: Vec::new(), files };
        let all = [AttachChoice::Lsm, AttachChoice::Fexit, AttachChoice::Syscall];
        for by in all.into_iter().filter(|choice| by.iter().any(|name| name == means(*choice))) {
            let mut bpf = Bpf::load(&AttachPlan::for_kernel(kernel))?;
            bpf.attach_accesses(by, kernel)?;
            if bpf.watching().iter().any(|(_, watched)| matches!(watched, Watched::By { .. })) {
                bench.means.push(by);
            }
        }
        Ok(bench)
    }

    /// One row, one work: what its process measured, and with khard how many of the repeats ended in the kernel.
    fn cell(&self, row: Row, work: Work) -> Result<(Took, Option<f64>)> {
        let cgroup = self.tree.create(&format!("khard-bench-{}", std::process::id()))?;
        let child = self.start(&cgroup, work)?;
        let plan = AttachPlan::for_kernel(self.kernel);
        let mut attached = None;
        if row != Row::Nothing {
            let mut bpf = Bpf::load(&plan)?;
            let slot = bpf.register_running(cgroup.id, fs::metadata("/proc/self/ns/mnt")?.ino())?;
            bpf.attach(&plan)?;
            match row {
                Row::Empty(by) => bpf.attach_empty(by)?,
                Row::Khard(by) => bpf.attach_accesses(by, self.kernel)?,
                Row::Nothing | Row::Calls => {}
            }
            attached = Some((bpf, slot));
        }
        let (took, n_different) = Self::work(child, attached.as_mut())?;
        let share = matches!(row, Row::Khard(_)).then_some(attached).flatten().map(|(bpf, slot)| {
            let counts = bpf.slots().view(slot).accesses;
            let known = (counts.known + bpf.stats()[stats::ACCESSES_KNOWN_BY_NAME]) as f64;
            known / (known + counts.tried as f64 - n_different as f64)
        });
        Ok((took, share))
    }

    /// A process that does the work once it is told to. It is there before khard looks, so that all it does is the workload's:
    /// one that comes later may be on its way in for its first seconds, and all that it does then is told apart.
    fn start(&self, cgroup: &OwnCgroup, work: Work) -> Result<Child> {
        let name = work.to_possible_value().context("a work's name")?;
        let child = Command::new("sh")
            .args(["-c", r#"read -r _ && exec "$@""#, "sh"])
            .arg(std::env::current_exe()?)
            .args(["work", name.get_name()])
            .arg(self.files.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        fs::write(cgroup.dir.join("cgroup.procs"), child.id().to_string())?;
        Ok(child)
    }

    fn work(mut child: Child, mut attached: Option<&mut (Bpf, SlotNumber)>) -> Result<(Took, usize)> {
        let mut ring = attached.as_mut().map(|(bpf, _)| bpf.take_access_ring()).transpose()?;
        let mut different = HashSet::new();
        child.stdin.take().context("the work's stdin")?.write_all(b"\n")?;
        loop {
            let has_ended = child.try_wait()?.is_some();
            // As khard's loop does: what arrived makes room.
            if let (Some(ring), Some((bpf, slot))) = (&mut ring, &attached) {
                while let Some(bytes) = ring.next() {
                    if let Some((record, _)) = decode(&bytes) {
                        different.insert(record.hash);
                        bpf.slots().land(*slot, bytes.len() as u64);
                    }
                }
            }
            if has_ended {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "the work with files: {}", output.status);
        let took: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout)?;
        Ok((took.into_iter().collect(), different.len()))
    }
}
