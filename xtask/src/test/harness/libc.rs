//! The program that users are given, in a root file system that has musl's libc and no other.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{Given, LIMIT};
use crate::vm::{Outcome, Stream};

/// What is recorded: linked against musl.
const WORK: &str = r#"
#include <stdio.h>
#include <sys/stat.h>
int main(void) { return mkdir("/made", 0700) || puts("made") < 0; }
"#;

/// A root of its own, with nothing of the guest's but its kernel.
const SCRIPT: &str = r"set -e
root=$(mktemp -d)
mkdir -p $root/bin $root/lib $root/proc $root/sys $root/out
musl-gcc -O2 -o $root/bin/work work.c
cp khard $root/bin/khard
cp -L /lib/ld-musl-x86_64.so.1 $root/lib/
mount --rbind /proc $root/proc
mount --rbind /sys $root/sys
! chroot $root /lib64/ld-linux-x86-64.so.2 2> /dev/null
chroot $root /bin/khard trace --floor none -o /out -- /bin/work
cp -r $root/out/work .
";

pub(super) fn a_static_khard_records_where_another_libc_is(given: &Given<'_>) -> Result<()> {
    let mut guest = (given.boot)()?;
    fs::write(given.share.join("work.c"), WORK)?;
    fs::copy(given.khard, given.share.join("khard"))?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = guest.run(SCRIPT, Some(LIMIT), &mut |stream, bytes| match stream {
        Stream::Out => out.extend(bytes),
        Stream::Err => err.extend(bytes),
    })?;
    let said = String::from_utf8_lossy(&err);
    ensure!(matches!(outcome, Outcome::Exited(0)), "{outcome:?}: {said}");
    ensure!(String::from_utf8_lossy(&out).contains("made\n"), "the work printed nothing: {said}");
    guest.end()?;
    let profile = fs::read_to_string(given.share.join("work/seccomp.json")).context("its profile")?;
    ensure!(profile.contains("\"mkdir\""), "the profile has no mkdir: {profile}");
    Ok(())
}
