//! Measuring the floor: what an OCI runtime itself still calls once the filter is in force. Owns the measurement: many
//! containers, each another one, run under a filter that logs all calls and lets them through; khard says which calls came in
//! the phases under the filter, the kernel's audit says the same on its own, and every difference is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use khard_profile::{
    recording::{Abi, Recording, Runtime},
    seccomp::{FloorData, FloorEntry, Start},
    syscalls,
};
use khard_tests::audit::Listener;
use khard_user::cgroup::CgroupTree;

use crate::{
    audit::{self, Heard},
    runtime::{self, OciRuntime, Running, wait_for_end, wait_for_sleep},
    shape::{FOLDERS, Features, PROGRAM, Place, Shape, StartBy, USER},
};

/// What to measure with what.
pub(crate) struct Plan {
    /// The program khard.
    pub khard: PathBuf,
    /// runc or crun.
    pub runtime: PathBuf,
    /// A folder that is bound over /usr for the runtime: one of another suite, with its own libraries.
    pub usr: Option<PathBuf>,
    /// A static busybox.
    pub busybox: PathBuf,
    /// How many containers, each with one exec, for each of `no_new_privs` true and false.
    pub n_containers: usize,
    /// The first one's number: other numbers are other containers.
    pub first: u64,
    /// How many at the same time.
    pub n_at_once: usize,
}

/// What came out.
pub(crate) struct Measured {
    /// The floors.
    pub data: FloorData,
    /// Where khard and audit do not say the same, or audit said nothing.
    pub differences: Vec<String>,
}

/// So many containers of the first batch wait so long between `create` and `start`: Go collects garbage every two minutes
/// (`forcegcperiod` in its runtime/proc.go), and a runtime that waits under the filter does so under it.
const N_SLOW: usize = 8;
const SLOW: Duration = Duration::from_secs(130);
/// khard records so many subjects at once, and has to keep some for others.
const BATCH: usize = 200;
const KHARD_PATIENCE: Duration = Duration::from_mins(10);

/// Measures the floors of one runtime.
pub(crate) fn measure(plan: &Plan) -> Result<Measured> {
    let dir = tempfile::Builder::new().prefix("khard-floor-").tempdir()?;
    // A container's root may be another user, who has to come through here.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let rootfs = dir.path().join("rootfs");
    make_rootfs(&rootfs, &plan.busybox)?;
    let runtime = OciRuntime::find(&plan.runtime, plan.usr.as_deref(), dir.path().join("state"))?;
    let mut measured = Measured { data: FloorData::default(), differences: Vec::new() };
    for no_new_privs in [false, true] {
        for batch_first in (0..plan.n_containers).step_by(BATCH) {
            let began = Instant::now();
            let numbers = batch_first..plan.n_containers.min(batch_first + BATCH);
            let batch = Batch {
                plan,
                runtime: &runtime,
                rootfs: &rootfs,
                dir: dir.path().join(format!("{no_new_privs}-{batch_first}")),
                parent: format!("/khard-floor-{}-{no_new_privs}-{batch_first}", std::process::id()),
                no_new_privs,
                n_slow: if batch_first == 0 { N_SLOW.min(numbers.len()) } else { 0 },
                features: Features::of_this_machine(),
                numbers: numbers.clone().map(|number| plan.first + number as u64).collect(),
            };
            batch.measure(&mut measured)?;
            eprintln!(
                "floor: {} {}, no_new_privs {no_new_privs}: {} containers in {} s",
                runtime.name,
                runtime.version,
                numbers.len(),
                began.elapsed().as_secs()
            );
            fs::remove_dir_all(&batch.dir)?;
        }
    }
    Ok(measured)
}

fn make_rootfs(rootfs: &Path, busybox: &Path) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(rootfs.join(folder))?;
    }
    let program = rootfs.join("bin").join(PROGRAM);
    fs::copy(busybox, &program).with_context(|| format!("cannot copy {}", busybox.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for name in ["sleep", "true"] {
        symlink(PROGRAM, rootfs.join("bin").join(name))?;
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(rootfs.join("etc/group"), "root:x:0:\n")?;
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::set_permissions(rootfs.join("home"), fs::Permissions::from_mode(0o700))?;
    chown(rootfs.join("home"), Some(USER), Some(USER))?;
    Ok(())
}

/// Containers that are recorded by one khard.
struct Batch<'a> {
    plan: &'a Plan,
    runtime: &'a OciRuntime,
    rootfs: &'a Path,
    dir: PathBuf,
    /// The cgroup around the containers'.
    parent: String,
    no_new_privs: bool,
    features: Features,
    /// How many of them start slowly: the first ones.
    n_slow: usize,
    numbers: Vec<u64>,
}

/// The process of a container's start and that of its exec.
type Pids = [u32; 2];
/// What a witness saw of a container: calls by how the process came in.
type Calls = BTreeMap<Start, BTreeSet<&'static str>>;

impl Batch<'_> {
    fn measure(&self, measured: &mut Measured) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        for &number in &self.numbers {
            self.write_bundle(number)?;
        }
        let witness = Listener::start();
        let ran = self.record();
        // Whatever happened, nothing of it stays behind.
        self.clean_up();
        let pids = ran?;
        let heard = match witness.and_then(audit::heard) {
            Ok(Some(heard)) => Some(heard),
            Ok(None) => None,
            Err(error) => {
                measured.differences.push(format!("no second witness: {error:#}"));
                None
            }
        };
        if heard.is_none() {
            measured.differences.push("no second witness: audit said nothing".to_owned());
        }
        for (&number, pids) in self.numbers.iter().zip(pids) {
            let entries = self.entries(number)?;
            if let Some(heard) = &heard {
                let differences = compare(&calls_of(&entries), &calls_heard(heard, pids)?);
                measured.differences.extend(differences.into_iter().map(|difference| {
                    format!(
                        "container {number}, no_new_privs {}: {difference} (audit lacks {} records)",
                        self.no_new_privs, heard.n_missing
                    )
                }));
            }
            for entry in entries {
                measured.data.add(entry);
            }
        }
        Ok(())
    }

    fn is_slow(&self, number: u64) -> bool {
        self.numbers.iter().take(self.n_slow).any(|slow| *slow == number)
    }

    fn shape(&self, number: u64) -> Shape {
        let shape = Shape::draw(number);
        if self.is_slow(number) { shape.in_two_steps() } else { shape }
    }

    fn write_bundle(&self, number: u64) -> Result<()> {
        let bundle = self.bundle(number);
        fs::create_dir_all(&bundle)?;
        let shape = self.shape(number);
        let cgroup = self.cgroup(number);
        let place = Place { rootfs: self.rootfs, cgroup: &cgroup };
        let config = shape.config(&place, self.no_new_privs, self.features);
        fs::write(bundle.join("config.json"), config.to_string())?;
        let process = shape.process(&["true"], shape.exec.terminal, self.no_new_privs, self.features);
        fs::write(bundle.join("process.json"), process.to_string())?;
        Ok(())
    }

    /// Runs all containers while khard records them.
    fn record(&self) -> Result<Vec<Pids>> {
        let said = self.dir.join("khard.log");
        let log = File::create(&said)?;
        let mut command = Command::new(&self.plan.khard);
        command.args(["-v", "trace", "--wait", "--floor", "none", "-o"]).arg(self.dir.join("out"));
        for &number in &self.numbers {
            command.args(["--cgroup", &self.cgroup(number)]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut khard = command.spawn().context("cannot start khard")?;
        let mut said_ready = || -> Result<()> {
            loop {
                let text = fs::read_to_string(&said)?;
                if text.contains("ready: ") {
                    return Ok(());
                }
                ensure!(khard.try_wait()?.is_none(), "khard ended:\n{text}");
                thread::sleep(Duration::from_millis(20));
            }
        };
        let ran = said_ready().and_then(|()| self.run_all());
        if ran.is_err() {
            let _ = khard.kill();
            let _ = khard.wait();
            return ran;
        }
        let deadline = Instant::now() + KHARD_PATIENCE;
        let status = loop {
            if let Some(status) = khard.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                let _ = khard.kill();
                let _ = khard.wait();
                bail!("khard does not end although all containers have");
            }
            thread::sleep(Duration::from_millis(20));
        };
        ensure!(status.success(), "khard ({status}):\n{}", fs::read_to_string(&said)?);
        ran
    }

    /// Runs the containers, many at the same time on a machine that is busy besides: what a scheduler inside a runtime does is
    /// seldom the same.
    fn run_all(&self) -> Result<Vec<Pids>> {
        let pids = Mutex::new(BTreeMap::new());
        let failed = Mutex::new(None);
        let next = AtomicUsize::new(self.n_slow);
        let is_over = AtomicBool::new(false);
        let one = |index: usize| {
            let result = self.run_one(self.numbers[index]);
            match (result, pids.lock(), failed.lock()) {
                (Ok(two), Ok(mut pids), _) => drop(pids.insert(index, two)),
                (Err(error), _, Ok(mut failed)) => {
                    failed.get_or_insert(error);
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                }
                _ => {}
            }
        };
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.numbers.len() {
                    return;
                }
                one(index);
            }
        };
        thread::scope(|scope| {
            let mut workers: Vec<_> = (0..self.n_slow).map(|index| scope.spawn(move || one(index))).collect();
            workers.extend((0..self.plan.n_at_once).map(|_| scope.spawn(work)));
            scope.spawn(|| keep_busy(&is_over));
            for worker in workers {
                let _ = worker.join();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        if let Some(error) = failed.into_inner().ok().flatten() {
            return Err(error);
        }
        let pids = pids.into_inner().ok().context("a container's thread panicked")?;
        ensure!(pids.len() == self.numbers.len(), "a container's thread panicked");
        Ok(pids.into_values().collect())
    }

    fn run_one(&self, number: u64) -> Result<Pids> {
        let bundle = self.bundle(number);
        let path = |name: &str| bundle.join(name).display().to_string();
        let (id, log) = (self.id(number), bundle.join("log"));
        let (bundle_dir, pid, exec_pid) = (path(""), path("pid"), path("exec-pid"));
        let shape = self.shape(number);
        let start = |verb: &[&str]| {
            let args = [verb, &["--bundle", &bundle_dir, "--pid-file", &pid, &id]].concat();
            self.runtime.spawn(&args, shape.start, &log)
        };
        let mut attached: Option<Running> = None;
        match shape.start_by {
            StartBy::CreateAndStart => {
                start(&["create"])?.wait()?;
                let pause = Duration::from_millis(number % 16 * 8);
                thread::sleep(if self.is_slow(number) { SLOW } else { pause });
                self.runtime.run(&["start", &id], shape.start, &bundle.join("start-log"))?;
            }
            StartBy::Run => start(&["run", "--detach"])?.wait()?,
            StartBy::RunAttached => attached = Some(start(&["run"])?),
        }
        let first = wait_for_sleep(Path::new(&pid), PROGRAM, attached.as_mut())
            .with_context(|| format!("container {number}"))?;

        let (process, exec_log) = (path("process.json"), bundle.join("exec-log"));
        let mut args = vec!["exec", "--process", &process, "--pid-file", &exec_pid];
        args.extend(shape.exec_detached.then_some("--detach"));
        args.push(&id);
        self.runtime.run(&args, shape.exec, &exec_log).with_context(|| format!("container {number}"))?;
        let second = runtime::pid_in(Path::new(&exec_pid)).context("an exec without a process id")?;
        wait_for_end(second)?;

        // A runtime that stays with its container deletes it when it ends.
        let verb = if attached.is_some() { ["kill", &id, "KILL"] } else { ["delete", "--force", &id] };
        self.runtime.run(&verb, runtime::How::default(), &bundle.join("delete-log"))?;
        if let Some(running) = attached {
            running.wait_any();
        }
        Ok([first, second])
    }

    /// What khard saw of one container.
    fn entries(&self, number: u64) -> Result<Vec<FloorEntry>> {
        let path = self.dir.join("out").join(name_of(number)).join("recording.json");
        let json = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut recording = Recording::from_json(&json)?;
        // A cgroup does not tell whose it is; here it is known.
        for mut run in recording.runs().values().cloned().collect::<Vec<_>>() {
            run.runtime = Some(Runtime {
                name: self.runtime.name.clone(),
                version: Some(self.runtime.version.clone()),
                handler: String::new(),
                manager: None,
            });
            run.confinement.no_new_privs = Some(self.no_new_privs);
            recording.add_run(run);
        }
        let entries = FloorEntry::measure(&recording).with_context(|| format!("container {number}"))?;
        ensure!(entries.len() == 2, "container {number}: khard saw no exec under the filter");
        Ok(entries)
    }

    /// Ends what is left of the containers, and removes their cgroups.
    fn clean_up(&self) {
        for &number in &self.numbers {
            if self.dir.join("../state").join(self.id(number)).exists() {
                let (id, log) = (self.id(number), self.bundle(number).join("delete-log"));
                let _ = self.runtime.run(&["delete", "--force", &id], runtime::How::default(), &log);
            }
        }
        let root = CgroupTree::find().map(|tree| tree.mount().to_owned()).unwrap_or_default();
        // Beside the v2 tree, a machine may have v1 hierarchies next to it.
        let siblings =
            root.parent().into_iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
        for hierarchy in siblings.chain([root.clone()]) {
            let _ = fs::remove_dir(hierarchy.join(self.parent.trim_start_matches('/')));
        }
    }

    /// Ids of all floors on a machine must differ: a runtime's other folders are named by them.
    fn id(&self, number: u64) -> String {
        format!("{}-{}", self.parent.trim_start_matches('/'), name_of(number))
    }

    fn cgroup(&self, number: u64) -> String {
        format!("{}/{}", self.parent, name_of(number))
    }

    fn bundle(&self, number: u64) -> PathBuf {
        self.dir.join(name_of(number))
    }
}

fn name_of(number: u64) -> String {
    format!("c{number}")
}

/// Takes a CPU half of the time.
fn keep_busy(is_over: &AtomicBool) {
    const SPELL: Duration = Duration::from_millis(300);
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        while began.elapsed() < SPELL {
            std::hint::spin_loop();
        }
        thread::sleep(SPELL);
    }
}

fn calls_of(entries: &[FloorEntry]) -> Calls {
    entries
        .iter()
        .map(|entry| {
            let names = entry.calls.keys().filter_map(|name| syscalls::by_name(name)).map(|call| call.name);
            (entry.key.kind, names.collect())
        })
        .collect()
}

fn calls_heard(heard: &Heard, [start, exec]: Pids) -> Result<Calls> {
    let of = |pid: u32| -> Result<BTreeSet<&'static str>> {
        let programs = heard.calls.get(&pid).into_iter().flatten();
        let calls = programs.filter(|(program, _)| !Path::new(program).ends_with(PROGRAM));
        calls.flat_map(|(_, calls)| calls).map(|&(abi, nr)| name(abi, nr)).collect()
    };
    Ok([(Start::Start, of(start)?), (Start::Exec, of(exec)?)].into())
}

fn name(abi: Abi, nr: u32) -> Result<&'static str> {
    Ok(syscalls::by_number(abi, nr).with_context(|| format!("no name for {nr} ({abi})"))?.name)
}

/// In what two witnesses differ.
fn compare(khard: &Calls, audit: &Calls) -> Vec<String> {
    let mut differences = Vec::new();
    for kind in [Start::Start, Start::Exec] {
        let none = BTreeSet::new();
        let (ours, theirs) = (khard.get(&kind).unwrap_or(&none), audit.get(&kind).unwrap_or(&none));
        for (who, some, others) in [("khard", ours, theirs), ("audit", theirs, ours)] {
            let only: Vec<_> = some.difference(others).copied().collect();
            if !only.is_empty() {
                differences.push(format!("{kind}: only {who} saw {}", only.join(", ")));
            }
        }
    }
    differences
}
