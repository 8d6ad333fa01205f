//! Owns AppArmor's words for the kernel's numbers: capabilities, socket families and types, signals. Knows no rules.

/// By number: include/uapi/linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// By number: include/linux/socket.h. The parser knows no word for `AF_DECnet` (12).
const FAMILIES: [&str; 46] = [
    "unspec",
    "unix",
    "inet",
    "ax25",
    "ipx",
    "appletalk",
    "netrom",
    "bridge",
    "atmpvc",
    "x25",
    "inet6",
    "rose",
    "",
    "netbeui",
    "security",
    "key",
    "netlink",
    "packet",
    "ash",
    "econet",
    "atmsvc",
    "rds",
    "sna",
    "irda",
    "pppox",
    "wanpipe",
    "llc",
    "ib",
    "mpls",
    "can",
    "tipc",
    "bluetooth",
    "iucv",
    "rxrpc",
    "isdn",
    "phonet",
    "ieee802154",
    "caif",
    "alg",
    "nfc",
    "vsock",
    "kcm",
    "qipcrtr",
    "smc",
    "xdp",
    "mctp",
];

/// By number: include/linux/net.h. Parser 3.0.8 refuses `none` and `dccp`, although its manual has the latter.
const KINDS: [&str; 11] = ["", "stream", "dgram", "raw", "rdm", "seqpacket", "", "", "", "", "packet"];

/// By number, as on every architecture here: include/uapi/asm-generic/signal.h; AppArmor's names: `sig_names` in
/// `security/apparmor/include/sig_names.h`. 0 is the test for existence.
const SIGNALS: [&str; 32] = [
    "exists", "hup", "int", "quit", "ill", "trap", "abrt", "bus", "fpe", "kill", "usr1", "segv", "usr2",
    "pipe", "alrm", "term", "stkflt", "chld", "cont", "stop", "stp", "ttin", "ttou", "urg", "xcpu", "xfsz",
    "vtalrm", "prof", "winch", "io", "pwr", "sys",
];

/// The kernel's first and last real-time signal.
const SIGRTMIN: u8 = 32;
const SIGRTMAX: u8 = 64;

/// `net_admin`; `None` for a number that is no capability of Linux 7.
pub fn capability(number: u8) -> Option<&'static str> {
    CAPABILITIES.get(usize::from(number)).copied()
}

/// `inet`.
pub fn family(number: u16) -> Option<&'static str> {
    FAMILIES.get(usize::from(number)).copied().filter(|name| !name.is_empty())
}

/// `stream`.
pub fn kind(number: u16) -> Option<&'static str> {
    KINDS.get(usize::from(number)).copied().filter(|name| !name.is_empty())
}

/// `term`, `rtmin+3`. Real-time signals are counted from the kernel's own first, 32, not from the C library's.
pub fn signal(number: u8) -> Option<String> {
    match number {
        SIGRTMIN..=SIGRTMAX => Some(format!("rtmin+{}", number - SIGRTMIN)),
        _ => SIGNALS.get(usize::from(number)).map(|name| (*name).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        assert_eq!(
            [capability(21), capability(40), capability(41)],
            [Some("sys_admin"), Some("checkpoint_restore"), None]
        );
        assert_eq!(
            [family(2), family(10), family(16), family(12), family(46)],
            [Some("inet"), Some("inet6"), Some("netlink"), None, None]
        );
        assert_eq!([kind(1), kind(6), kind(10)], [Some("stream"), None, Some("packet")]);
        let signals = [0, 15, 20, 31, 37, 64].map(|number| signal(number).unwrap());
        assert_eq!(signals, ["exists", "term", "stp", "sys", "rtmin+5", "rtmin+32"]);
        assert_eq!(signal(65), None);
    }
}
