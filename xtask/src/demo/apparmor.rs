//! The AppArmor half of the demonstration, in a guest whose kernel has AppArmor: any machine can show it. Owns booting and
//! showing; what is done is the script's.

use std::{io::Write as _, path::Path, time::Duration};

use anyhow::{Result, bail};

use crate::{
    debian,
    paths::Paths,
    vm::{Options, Outcome, Parts},
};

const SCRIPT: &str = include_str!("apparmor.sh");
/// The guest's kernel: Debian 12's newer one.
const KERNEL: &str = "6.12";
const LIMIT: Duration = Duration::from_mins(5);

/// Boots the guest and runs the script, which checks each of its steps.
pub(super) fn show(paths: &Paths, bin_dir: &Path) -> Result<()> {
    let share = paths.state_dir("demo")?;
    let parts = Parts::make(paths, KERNEL, &debian::suite(), bin_dir)?;
    let mut guest = parts.boot(paths, &share, &Options::default(), false)?;
    let outcome = guest.run(SCRIPT, Some(LIMIT), &mut |_, bytes| {
        // Whoever reads our output has gone when this fails; the script goes on.
        let _ = std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush());
    })?;
    match outcome {
        Outcome::Exited(0) => guest.end(),
        Outcome::Exited(status) => bail!("the AppArmor half failed in the guest with status {status}"),
        Outcome::OutOfTime => bail!("the AppArmor half did not end within {} s", LIMIT.as_secs()),
        Outcome::MachineGone(console) => bail!("the guest is gone; its console:\n{console}"),
    }
}
