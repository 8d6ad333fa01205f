//! The kernel's security modules: owns finding out which are active.

use super::fs::SECURITYFS;

/// The active security modules in their order, or why they are not known.
///
/// # Errors
/// In words: neither the file can be read nor does the kernel have the call.
pub fn security_modules() -> Result<Vec<String>, String> {
    match SECURITYFS.read("lsm") {
        Ok(text) => Ok(text.trim().split(',').map(str::to_owned).collect()),
        Err(reason) => lsms_by_call().ok_or(reason),
    }
}

/// Asks by `lsm_list_modules(2)`, which Linux has since 6.8 and which needs no file system.
fn lsms_by_call() -> Option<Vec<String>> {
    /// The call's number on every architecture; libc does not name it yet.
    const SYS_LSM_LIST_MODULES: libc::c_long = 461;
    /// include/uapi/linux/lsm.h, 6.18: numbers from 100 on.
    const NAMES: [&str; 14] = [
        "capability",
        "selinux",
        "smack",
        "tomoyo",
        "apparmor",
        "yama",
        "loadpin",
        "safesetid",
        "lockdown",
        "bpf",
        "landlock",
        "ima",
        "evm",
        "ipe",
    ];
    let mut ids = [0_u64; 64];
    let mut size = u32::try_from(size_of_val(&ids)).ok()?;
    // SAFETY: the kernel writes at most `size` bytes to `ids`, and the size that it needs to `size`.
    let n = unsafe { libc::syscall(SYS_LSM_LIST_MODULES, ids.as_mut_ptr(), &raw mut size, 0_u32) };
    let known = ids.get(..usize::try_from(n).ok()?)?.iter().map(|id| {
        let at = id.checked_sub(100).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| NAMES.get(at)).map_or_else(|| format!("lsm-{id}"), ToString::to_string)
    });
    Some(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_and_the_file_name_the_same_modules() {
        if let (Ok(file), Some(mut call)) = (SECURITYFS.read("lsm"), lsms_by_call()) {
            let mut file: Vec<_> = file.trim().split(',').map(str::to_owned).collect();
            file.sort();
            call.sort();
            assert_eq!(file, call);
        }
    }
}
