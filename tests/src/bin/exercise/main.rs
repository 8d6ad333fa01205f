//! A program that does once each thing that AppArmor mediates, in named steps: `exercise all DIR`, `exercise STEP… DIR`.
//! Each step has a folder of its own below DIR and leaves nothing behind, so that it can be done again. Owns the table of
//! steps; knows nothing of who watches. Prints a line for each step; a step that does not apply says why.

mod call;
mod exec;
mod files;
mod mounts;
mod process;
mod sockets;
mod uring;

use std::{env, fmt, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

type Step = fn(&Path) -> Result<()>;

const STEPS: [(&str, Step); 37] = [
    ("open", files::opening),
    ("tmpfile", files::nameless),
    ("exclusive", files::exclusive),
    ("remove", files::removing),
    ("rename", files::renaming),
    ("link", files::linking),
    ("mknod", files::nodes),
    ("truncate", files::truncating),
    ("chmod", files::modes),
    ("chown", files::owners),
    ("lock", files::locks),
    ("mmap", files::mapping),
    ("share", files::sharing),
    ("paths", files::paths),
    ("deleted", files::deleted),
    ("storm", files::renamed_much),
    ("hostile", files::hostile),
    ("refused", files::refusals),
    ("access", files::asking),
    ("proc", files::proc),
    ("exec", exec::programs),
    ("script", exec::scripts),
    ("exec-nameless", exec::nameless),
    ("exec-linker", exec::linker),
    ("exec-refused", exec::refusals),
    ("unix", sockets::unix),
    ("socket", sockets::families),
    ("internet", sockets::internet),
    ("pass", sockets::passing),
    ("mqueue", sockets::queue),
    ("signal", process::signals),
    ("ptrace", process::tracing),
    ("look", process::looking_into),
    ("userns", process::user_namespace),
    ("capability", process::capabilities),
    ("uring-open", uring::opening),
    ("uring-poll", uring::polling),
];
/// Those that make mount namespaces.
const MOUNT_STEPS: [(&str, Step); 5] = [
    ("mount", mounts::mounting),
    ("mount-new", mounts::new_calls),
    ("pivot", mounts::pivoting),
    ("chroot", mounts::changing_root),
    ("overlay", mounts::overlay),
];

/// A step does not apply here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) &'static str);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("exercise: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let Some((dir, names)) = words.split_last() else { bail!("exercise all|list|STEP… DIR") };
    let steps = || STEPS.iter().chain(&MOUNT_STEPS);
    if dir == "list" {
        steps().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let is_all = names == ["all"];
    for name in names.iter().filter(|_| !is_all) {
        ensure!(steps().any(|(step, _)| step == name), "no step {name}; `exercise list` has them");
    }
    let dir = fs::canonicalize(dir).with_context(|| dir.clone())?;
    let mut n_failed = 0;
    for (name, step) in steps().filter(|(name, _)| is_all || names.iter().any(|wanted| wanted == name)) {
        let own = dir.join(name);
        fs::create_dir(&own).with_context(|| own.display().to_string())?;
        let done = step(&own);
        fs::remove_dir_all(&own).with_context(|| own.display().to_string())?;
        match done {
            Ok(()) => println!("{name}: done"),
            Err(error) => {
                if let Some(skip) = error.downcast_ref::<Skip>() {
                    println!("{name}: skipped: {skip}");
                } else {
                    // The others are done all the same, so that one run shows all that is refused.
                    println!("{name}: failed: {error:#}");
                    n_failed += 1;
                }
            }
        }
    }
    ensure!(n_failed == 0, "{n_failed} steps failed");
    Ok(())
}
