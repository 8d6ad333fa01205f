//! Guests: the verb `vm`, and what it shares with the tests. A guest is a Debian kernel in QEMU with a Debian root file
//! system that has containerd, runc, crun and AppArmor, khard's programs in its PATH, and one shared folder.

mod console;
mod initramfs;
mod kernels;
mod machine;
mod rootfs;
mod session;

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;

pub(crate) use machine::Network;
pub(crate) use rootfs::absent;
pub(crate) use session::{Outcome, Session, Stream};

use crate::{
    build, debian,
    paths::Paths,
    setup::{self, Purpose},
};

/// Exit status when a command did not end in time, as timeout(1) has it.
const OUT_OF_TIME: u8 = 124;
/// Exit status when the guest is gone.
const MACHINE_GONE: u8 = 125;

/// Options of `cargo xtask vm`.
#[derive(Args)]
pub(crate) struct VmArgs {
    /// 6.1, 6.12, newest (of Debian's backports), or the path of a kernel package or its unpacked folder.
    #[arg(long)]
    kernel: String,
    /// Debian's suite that the guest's programs are from, such as sid [default: this machine's].
    #[arg(long)]
    suite: Option<String>,
    /// More kernel arguments, such as lsm=lockdown,capability,landlock,yama,apparmor.
    #[arg(long, default_value = "", value_name = "ARGS")]
    append: String,
    /// Emulated CPUs (taking turns).
    #[arg(long, default_value_t = 1, value_name = "N")]
    smp: u32,
    /// Memory of the guest.
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    memory: u32,
    /// The folder that is /host in the guest, the working directory there, live both ways [default: this folder].
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Seconds after which the command is given up (exit status 124).
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// What to run, as root; one word is given to a shell as it is. Without it: a shell.
    #[arg(last = true)]
    command: Vec<String>,
}

/// The verb `vm`: the command's exit status, or 124 or 125.
pub(crate) fn verb(paths: &Paths, args: &VmArgs) -> Result<u8> {
    let share = match &args.share {
        Some(dir) => dir.clone(),
        None => env::current_dir()?,
    };
    let built = build::all(paths)?;
    let suite = args.suite.clone().unwrap_or_else(debian::suite);
    let parts = Parts::make(paths, &args.kernel, &suite, &built.bin_dir)?;
    let options = Options { append: &args.append, cpus: args.smp, memory_mib: args.memory, network: None };
    let mut session = parts.boot(paths, &share, &options, args.command.is_empty())?;
    let outcome = if args.command.is_empty() {
        session.shell()?
    } else {
        let limit = args.timeout.map(Duration::from_secs);
        session.run(&script(&args.command), limit, &mut |stream, bytes| {
            // Whoever reads our output has gone when this fails; the command goes on.
            let _ = match stream {
                Stream::Out => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
                Stream::Err => std::io::stderr().write_all(bytes),
            };
        })?
    };
    match outcome {
        Outcome::Exited(status) => {
            session.end()?;
            Ok(status)
        }
        Outcome::OutOfTime => {
            eprintln!("xtask: the command did not end in time");
            Ok(OUT_OF_TIME)
        }
        Outcome::MachineGone(console) => {
            eprintln!("xtask: the guest is gone; its console:\n{console}");
            Ok(MACHINE_GONE)
        }
    }
}

/// What every guest of one kernel is made of.
pub(crate) struct Parts {
    kernel: kernels::Kernel,
    rootfs: PathBuf,
    programs: PathBuf,
}

/// What differs from guest to guest.
pub(crate) struct Options<'a> {
    /// More kernel arguments.
    pub append: &'a str,
    /// Emulated CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u32,
    /// A network card.
    pub network: Option<Network>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { append: "", cpus: 1, memory_mib: 2048, network: None }
    }
}

impl Parts {
    /// Sets up, and makes the kernel and the root file system, of a suite of Debian's, unless they are there. `programs` is the
    /// folder that is first in the guests' PATH.
    pub(crate) fn make(paths: &Paths, kernel: &str, suite: &str, programs: &Path) -> Result<Self> {
        setup::ensure(paths, &[Purpose::Vm])?;
        let kernel = kernels::find(paths, kernel)?;
        Ok(Self { kernel, rootfs: rootfs::image(paths, suite)?, programs: programs.to_owned() })
    }

    /// Boots a guest with `share` as its shared folder.
    pub(crate) fn boot(
        &self,
        paths: &Paths,
        share: &Path,
        options: &Options,
        interactive: bool,
    ) -> Result<Session> {
        let config = machine::Config {
            kernel: &self.kernel,
            rootfs: &self.rootfs,
            programs: &self.programs,
            share,
            cpus: options.cpus,
            memory_mib: options.memory_mib,
            append: options.append,
            network: options.network.as_ref(),
            interactive,
        };
        Session::boot(paths, &config).context("guest")
    }
}

/// A script of a command's words: one word is a script already.
fn script(words: &[String]) -> String {
    match words {
        [script] => script.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word that a shell takes literally.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_and_one_word_is_a_script() {
        let words = |words: &[&str]| script(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["khard trace -- ls | wc -l"]), "khard trace -- ls | wc -l");
        assert_eq!(words(&["echo", "it's $HOME"]), r"'echo' 'it'\''s $HOME'");
    }
}
