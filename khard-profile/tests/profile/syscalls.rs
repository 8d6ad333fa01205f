//! Facts about the syscall tables: they agree with the kernel headers that are installed here.

use std::collections::BTreeMap;
use std::fs;

use khard_profile::recording::Abi;
use khard_profile::syscalls;

/// The `__NR_` definitions of a header whose values are plain numbers, `name → number`.
fn header(path: &str) -> BTreeMap<String, u32> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| {
        panic!("{path}: {error}: install the kernel's headers for user space (Debian: linux-libc-dev)")
    });
    let definition = |line: &str| {
        let (name, value) = line.strip_prefix("#define __NR_")?.split_once(char::is_whitespace)?;
        let value = value.trim().trim_start_matches("(__X32_SYSCALL_BIT +").trim_end_matches(')').trim();
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(definition).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_x86_tables_agree_with_the_installed_headers() {
    for (abi, file, least) in
        [(Abi::X86_64, "unistd_64.h", 350), (Abi::Ia32, "unistd_32.h", 430), (Abi::X32, "unistd_x32.h", 340)]
    {
        let header = header(&format!("/usr/include/x86_64-linux-gnu/asm/{file}"));
        assert!(header.len() >= least, "{file} has only {} calls", header.len());
        for (name, nr) in header {
            let call = syscalls::by_number(abi, nr)
                .unwrap_or_else(|| panic!("data/syscalls.tsv is older than {file}: it lacks {name} ({nr})"));
            assert_eq!(call.name, name, "{abi} {nr}");
        }
    }
}

/// The generic table is also that of other architectures: it has a few calls that arm64 lacks, and numbers that
/// depend on the word size, which are not plain numbers and are left out here.
#[test]
fn the_aarch64_table_agrees_with_the_installed_generic_header() {
    const NOT_ON_ARM64: [&str; 2] = ["sync_file_range2", "arch_specific_syscall"];
    let header = header("/usr/include/asm-generic/unistd.h");
    assert!(header.len() >= 280, "only {} calls", header.len());
    let time64 = 403..=423;
    for (name, nr) in header {
        if NOT_ON_ARM64.contains(&name.as_str()) || time64.contains(&nr) || name == "syscalls" {
            continue;
        }
        let call = syscalls::by_number(Abi::Aarch64, nr).unwrap_or_else(|| {
            panic!("data/syscalls.tsv is older than the generic header: it lacks {name} ({nr})")
        });
        assert_eq!(call.name, name, "{nr}");
    }
}
