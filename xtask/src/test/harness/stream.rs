//! The session stream into a guest: khard here, its agent there, and between them two files of the shared folder.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Given;
use crate::{
    command::{CommandExt as _, terminate, wait},
    vm::{Outcome, Stream},
};

const LIMIT: Duration = Duration::from_mins(4);

/// Two khards record one run: one in the guest, one through an agent that is told of here.
const IN_GUEST: &str = r#"
tree=$(findmnt -nt cgroup2 -o TARGET | head -n 1)
touch commands messages
(tail -c +1 -s 0.1 ---disable-inotify -f commands | khard agent --stdio > messages 2> agent.err) &
khard trace --floor none --cgroup /both --wait -o guest 2> guest.err &
recorder=$!
until grep -q ready: guest.err && grep -q ready: here.err; do sleep 0.2; done
mkdir "$tree/both"
sh -c 'echo $$ > "$0/both/cgroup.procs"
       ls /etc; cat /etc/passwd; d=$(mktemp -d); cp /etc/passwd $d/a; mv $d/a $d/b; rm -r $d; sleep 1' "$tree" > /dev/null
rmdir "$tree/both"
wait $recorder || exit 1
until [ -e here/both/recording.json ]; do sleep 0.2; done
"#;
/// Carries the stream: what comes in goes to one file, what the other gets goes out.
const CARRIER: &str = "exec 3<&0; cat <&3 > commands & exec tail -c +1 -s 0.1 ---disable-inotify -f messages";

pub(super) fn a_client_here_records_what_an_agent_in_a_guest_tells(given: &Given<'_>) -> Result<()> {
    let share = given.share;
    for name in ["commands", "messages", "here.err"] {
        File::create(share.join(name))?;
    }
    let mut guest = (given.boot)()?;
    let mut here = Command::new(given.khard)
        .args(["trace", "--floor", "none", "--cgroup", "/both", "--wait", "-o", "here", "--via", CARRIER])
        .current_dir(share)
        .stderr(File::create(share.join("here.err"))?)
        .spawn_owned()?;
    let said = |name: &str| fs::read_to_string(share.join(name)).unwrap_or_default();
    let outcome = guest.run(IN_GUEST, Some(LIMIT), &mut |_: Stream, _: &[u8]| {});
    let status = wait(&mut here, Some(Instant::now() + Duration::from_secs(10)));
    terminate(&mut here);
    let outcome = outcome?;
    guest.end()?;
    let told = format!("{}{}{}", said("guest.err"), said("agent.err"), said("here.err"));
    ensure!(matches!(outcome, Outcome::Exited(0)), "{outcome:?}\n{told}");
    ensure!(status?.is_some_and(|status| status.success()), "khard here did not end well\n{told}");
    let (there, here) = (facts(&share.join("guest"))?, facts(&share.join("here"))?);
    let differences: Vec<_> = there.symmetric_difference(&here).collect();
    ensure!(differences.is_empty(), "{differences:#?}");
    ensure!(there.len() > 60, "only {} facts", there.len());
    Ok(())
}

/// Calls and accesses with their phases, and the coverage of each class without the programs' own counts.
fn facts(out: &Path) -> Result<BTreeSet<String>> {
    let path = out.join("both/recording.json");
    let json: Value =
        serde_json::from_slice(&fs::read(&path)?).with_context(|| path.display().to_string())?;
    let list =
        |key: &str| json[key].as_array().cloned().with_context(|| format!("{key} in {}", path.display()));
    let phases = |seen: &Value| -> Vec<String> {
        seen.as_array().into_iter().flatten().map(|seen| seen["phase"].to_string()).collect()
    };
    let mut facts = BTreeSet::new();
    for call in list("syscalls")? {
        facts.insert(format!("{} {} {:?}", call["abi"], call["nr"], phases(&call["seen"])));
    }
    for access in list("accesses")? {
        facts.insert(format!("{} {:?}", access["access"], phases(&access["seen"])));
    }
    for run in list("runs")? {
        let coverage = &run["coverage"];
        let classes = coverage["accesses"].as_object().into_iter().flatten();
        for (class, coverage) in classes.chain([(&"syscalls".to_owned(), &coverage["syscalls"])]) {
            let words = ["certainty", "from", "by", "lost", "reason"].map(|key| coverage[key].to_string());
            facts.insert(format!("{class}: {words:?} {}", coverage["proof"]["kind"]));
        }
    }
    Ok(facts)
}
