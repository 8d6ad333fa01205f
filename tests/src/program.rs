//! Programs that make known calls and no others: a few machine instructions in a minimal ELF file. Owns their encoding;
//! x86-64 only.
//!
//! Every argument of a call is 0 but where it says otherwise: all registers are 0 at the start of a program
//! (`ELF_PLAT_INIT`, arch/x86/include/asm/elf.h), and a call changes only rax, rcx and r11.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use khard_profile::{recording::Abi, syscalls};

const MOV_EAX: u8 = 0xb8;
const MOV_EDI: u8 = 0xbf;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const INT_80: [u8; 2] = [0xcd, 0x80];
/// `xor ecx, ecx` and `xor ebx, ebx`.
const ZERO_ECX: [u8; 2] = [0x31, 0xc9];
const ZERO_EBX: [u8; 2] = [0x31, 0xdb];
/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

/// The number of a call.
pub fn number(abi: Abi, name: &str) -> u32 {
    let number = syscalls::by_name(name).and_then(|call| call.number(abi));
    number.unwrap_or_else(|| panic!("no call {name} in {abi}"))
}

/// Machine code that is put together call by call.
#[derive(Clone, Default)]
pub struct Program(Vec<u8>);

impl Program {
    /// No instruction yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A call by name.
    #[must_use]
    pub fn call(self, name: &str) -> Self {
        self.number(number(Abi::X86_64, name))
    }

    /// A call by number, which may mean nothing.
    #[must_use]
    pub fn number(self, nr: u32) -> Self {
        self.load(MOV_EAX, nr).code(&SYSCALL)
    }

    /// The same call, `n` times.
    #[must_use]
    pub fn calls(self, name: &str, n: u32) -> Self {
        // mov r15d, n; again: CALL; dec r15d; jnz again
        let body = Self::new().call(name).code(&[0x41, 0xff, 0xcf]);
        let back = i8::try_from(body.0.len() + 2).expect("a short loop");
        self.code(&[0x41]).load(0xbf, n).code(&body.0).code(&[0x75, (-back).cast_unsigned()])
    }

    /// A 32-bit call from 64-bit code.
    #[must_use]
    pub fn int80(self, name: &str) -> Self {
        self.load(MOV_EAX, number(Abi::Ia32, name)).code(&ZERO_ECX).code(&INT_80)
    }

    /// A call of the x32 ABI.
    #[must_use]
    pub fn x32(self, name: &str) -> Self {
        self.number(number(Abi::X32, name) | X32)
    }

    /// `fork`; the child does `child`, which must end it.
    #[must_use]
    pub fn fork(self, child: &Self) -> Self {
        // CALL; test eax, eax; jnz over the child's part
        let len = u32::try_from(child.0.len()).expect("a short program");
        self.call("fork").code(&[0x85, 0xc0, 0x0f]).load(0x85, len).code(&child.0)
    }

    /// `wait4` for any child, `n` times.
    #[must_use]
    pub fn wait_for_children(self, n: usize) -> Self {
        // mov rdi, -1
        let one = Self::new().code(&[0x48, 0xc7, 0xc7, 0xff, 0xff, 0xff, 0xff]).call("wait4");
        (0..n).fold(self, |program, _| program.code(&one.0)).load(MOV_EDI, 0)
    }

    /// The same, and counts it if it is answered with EPERM or ENOSYS, as filters do.
    #[must_use]
    pub fn counted_call(self, name: &str) -> Self {
        // cmp eax, -1; je count; cmp eax, -38; jne over; count: inc r14d; over:
        const COUNT: [u8; 13] =
            [0x83, 0xf8, 0xff, 0x74, 0x05, 0x83, 0xf8, 0xda, 0x75, 0x03, 0x41, 0xff, 0xc6];
        self.call(name).code(&COUNT)
    }

    /// `exit_group`, with how many were counted.
    #[must_use]
    pub fn exit_with_count(self) -> Self {
        // mov edi, r14d
        self.code(&[0x44, 0x89, 0xf7]).call("exit_group")
    }

    /// `exit_group(status)`.
    #[must_use]
    pub fn exit(self, status: u8) -> Self {
        self.load(MOV_EDI, status.into()).call("exit_group")
    }

    /// Writes the program.
    pub fn write(&self, path: &Path) {
        put(path, &elf64(&self.0));
    }

    fn load(mut self, instruction: u8, value: u32) -> Self {
        self.0.push(instruction);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn code(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// Writes a 32-bit program that makes these calls and ends by `exit`.
pub fn write_ia32(path: &Path, names: &[&str]) {
    let program = names
        .iter()
        .fold(Program::new(), |program, name| program.load(MOV_EAX, number(Abi::Ia32, name)).code(&INT_80));
    let program = program.load(MOV_EAX, number(Abi::Ia32, "exit")).code(&ZERO_EBX).code(&INT_80);
    put(path, &elf32(&program.0));
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// Where the one segment is loaded.
const BASE: u64 = 0x40_0000;
const PT_LOAD: u32 = 1;
const PT_GNU_STACK: u32 = 0x6474_e551;
const READ_EXECUTE: u32 = 5;
const READ_WRITE: u32 = 6;

/// elf(5): the header, a segment with everything, a stack that is not executed, the code.
fn elf64(code: &[u8]) -> Vec<u8> {
    const HEAD: u64 = 64 + 2 * 56;
    let len = HEAD + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    u16s(&mut file, &[2, 62]); // executable, EM_X86_64
    u32s(&mut file, &[1]);
    u64s(&mut file, &[BASE + HEAD, 64, 0]); // entry, program headers
    u32s(&mut file, &[0]);
    u16s(&mut file, &[64, 56, 2, 0, 0, 0]);
    u32s(&mut file, &[PT_LOAD, READ_EXECUTE]);
    u64s(&mut file, &[0, BASE, BASE, len, len, 0x1000]);
    u32s(&mut file, &[PT_GNU_STACK, READ_WRITE]);
    u64s(&mut file, &[0, 0, 0, 0, 0, 16]);
    file.extend(code);
    file
}

/// The same for 32 bits.
fn elf32(code: &[u8]) -> Vec<u8> {
    const HEAD: u32 = 52 + 32;
    let len = HEAD + u32::try_from(code.len()).expect("a short program");
    let base = u32::try_from(BASE).expect("a low address");
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    u16s(&mut file, &[2, 3]); // executable, EM_386
    u32s(&mut file, &[1, base + HEAD, 52, 0, 0]);
    u16s(&mut file, &[52, 32, 1, 0, 0, 0]);
    u32s(&mut file, &[PT_LOAD, 0, base, base, len, len, READ_EXECUTE, 0x1000]);
    file.extend(code);
    file
}

fn u16s(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn u32s(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn u64s(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::Command, sync::Mutex};

    use super::*;

    /// A child that another thread has just forked holds the file open for writing until its own exec: ETXTBSY.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn status(write: impl FnOnce(&Path)) -> std::process::ExitStatus {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        write(&path);
        Command::new(path).status().unwrap()
    }

    #[test]
    fn a_program_ends_with_its_status_after_calls_of_every_kind() {
        let child = Program::new().calls("getppid", 3).exit(9);
        let program = Program::new()
            .call("getppid")
            .int80("getppid")
            .x32("getppid")
            .number(600)
            .fork(&child)
            .fork(&child)
            .wait_for_children(2)
            .exit(7);
        assert_eq!(status(|path| program.write(path)).code(), Some(7));
    }

    #[test]
    fn a_child_does_its_own_part_only() {
        // Whoever runs beyond its part meets what is no instruction.
        let program = Program::new().fork(&Program::new().exit(0).code(&[0x0f, 0x0b])).exit(3);
        assert_eq!(status(|path| program.write(path)).code(), Some(3));
        let trap = Program::new().code(&[0x0f, 0x0b]);
        assert_eq!(status(|path| trap.write(path)).signal(), Some(libc::SIGILL));
    }

    #[test]
    fn a_32_bit_program_runs() {
        assert_eq!(status(|path| write_ia32(path, &["getppid"])).code(), Some(0));
    }
}
