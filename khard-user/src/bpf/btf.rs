//! A reader of the kernel's type information, just enough for field offsets and names.
//!
//! Format: Documentation/bpf/btf.rst. aya's own reader keeps its accessors to itself. Input is untrusted: every
//! read is checked.

use std::{collections::HashMap, fs, path::Path};

use khard_common::fields::Field;

/// Where the running kernel shows its BTF.
pub(super) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u32 = 0xeb9f;

/// Kinds, as in include/uapi/linux/btf.h.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why the type information could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// No such file, or not readable.
    #[error(
        "cannot read {path}: the kernel must be built with CONFIG_DEBUG_INFO_BTF=y (Debian, Ubuntu, Fedora and RHEL kernels are)"
    )]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not BTF, or cut.
    #[error(
        "the kernel's BTF ({KERNEL_BTF}) is malformed at byte {at}: khard cannot record on this kernel, please report its version"
    )]
    Malformed {
        /// Offset in the file.
        at: usize,
    },
    /// A field is in none of the places where khard knows it.
    #[error("this kernel has no field {field}: khard does not know its layout, so it does not guess")]
    NoField {
        /// `struct.member`, all known places.
        field: String,
    },
}

/// Type information in memory.
pub struct Btf {
    data: Vec<u8>,
    /// Byte position of each type, by id.
    positions: Vec<usize>,
    strings: usize,
    structs: HashMap<Vec<u8>, u32>,
}

impl Btf {
    /// The running kernel's.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(KERNEL_BTF))
    }

    /// A file's.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let data =
            fs::read(path).map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(data)
    }

    /// Raw BTF.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self { data, positions: vec![0], strings: 0, structs: HashMap::new() };
        if btf.u32(0)? & 0xffff != MAGIC {
            return Err(BtfError::Malformed { at: 0 });
        }
        let header = btf.u32(4)? as usize;
        let types = header + btf.u32(8)? as usize;
        let end = types + btf.u32(12)? as usize;
        btf.strings = header + btf.u32(16)? as usize;
        let mut at = types;
        while at < end {
            let (kind, len) = btf.kind_and_len(at)?;
            let tail = match kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * len,
                kind::ENUM | kind::FUNC_PROTO => 8 * len,
                _ => 0,
            };
            if matches!(kind, kind::STRUCT | kind::UNION) {
                let id = u32::try_from(btf.positions.len()).map_err(|_| BtfError::Malformed { at })?;
                let name = btf.name(at)?.to_vec();
                btf.structs.entry(name).or_insert(id);
            }
            btf.positions.push(at);
            at += 12 + tail;
        }
        Ok(btf)
    }

    /// Byte offset of a field in the first of its known places.
    pub fn offset(&self, field: &Field) -> Result<u64, BtfError> {
        for (name, path) in field.places {
            if let Some(offset) = self.member_offset(name, path)? {
                return Ok(offset);
            }
        }
        let places: Vec<_> = field.places.iter().map(|(name, path)| format!("{name}.{path}")).collect();
        Err(BtfError::NoField { field: places.join(" or ") })
    }

    /// Byte offset of `a.b.c` in a struct, through nested and anonymous members; `None` if it is not there.
    pub fn member_offset(&self, name: &str, path: &str) -> Result<Option<u64>, BtfError> {
        let Some(&id) = self.structs.get(name.as_bytes()) else { return Ok(None) };
        let (mut id, mut offset) = (id, 0);
        for member in path.split('.') {
            let Some((at, member_type)) = self.member(id, member.as_bytes(), 0)? else { return Ok(None) };
            (id, offset) = (member_type, offset + u64::from(at));
        }
        Ok(Some(offset))
    }

    /// The id of a kernel function's type, for programs that attach to it.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.id_of(kind::FUNC, name)
    }

    /// The id of a typedef: `btf_trace_NAME` is what a BTF tracepoint program attaches to.
    pub fn typedef_id(&self, name: &str) -> Option<u32> {
        self.id_of(kind::TYPEDEF, name)
    }

    fn id_of(&self, kind: u32, name: &str) -> Option<u32> {
        let is_it = |&at: &usize| {
            self.kind_and_len(at).is_ok_and(|(found, _)| found == kind)
                && self.name(at).is_ok_and(|found| found == name.as_bytes())
        };
        // Id 0 is void, which has no entry.
        let index = self.positions.iter().skip(1).position(is_it)?;
        u32::try_from(index + 1).ok()
    }

    /// (byte offset, type id) of a direct member, also one of an anonymous struct or union inside.
    fn member(&self, id: u32, wanted: &[u8], depth: u32) -> Result<Option<(u32, u32)>, BtfError> {
        let at = self.position(self.skip_modifiers(id)?)?;
        let (kind, len) = self.kind_and_len(at)?;
        if !matches!(kind, kind::STRUCT | kind::UNION) || depth > 8 {
            return Ok(None);
        }
        let bitfields = self.u32(at + 4)? >> 31 != 0;
        for i in 0..len {
            let member = at + 12 + 12 * i;
            let (name, member_type) = (self.name(member)?, self.u32(member + 4)?);
            let bits = self.u32(member + 8)?;
            let offset = if bitfields { bits & 0xff_ffff } else { bits } / 8;
            if name == wanted {
                return Ok(Some((offset, member_type)));
            }
            if name.is_empty()
                && let Some((inner, found)) = self.member(member_type, wanted, depth + 1)?
            {
                return Ok(Some((offset + inner, found)));
            }
        }
        Ok(None)
    }

    fn skip_modifiers(&self, mut id: u32) -> Result<u32, BtfError> {
        for _ in 0..32 {
            let at = self.position(id)?;
            match self.kind_and_len(at)?.0 {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.u32(at + 8)?;
                }
                _ => return Ok(id),
            }
        }
        Err(BtfError::Malformed { at: self.position(id)? })
    }

    fn position(&self, id: u32) -> Result<usize, BtfError> {
        self.positions.get(id as usize).copied().ok_or(BtfError::Malformed { at: 0 })
    }

    fn kind_and_len(&self, at: usize) -> Result<(u32, usize), BtfError> {
        let info = self.u32(at + 4)?;
        Ok((info >> 24 & 31, (info & 0xffff) as usize))
    }

    fn name(&self, at: usize) -> Result<&[u8], BtfError> {
        let start = self.strings + self.u32(at)? as usize;
        let tail = self.data.get(start..).ok_or(BtfError::Malformed { at })?;
        tail.split(|byte| *byte == 0).next().ok_or(BtfError::Malformed { at })
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = self.data.get(at..).and_then(<[u8]>::first_chunk).ok_or(BtfError::Malformed { at })?;
        Ok(u32::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct s { int a; union { int b; struct { int c; } d; }; }` by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0c\0d\0int\0";
        let int = |v: &mut Vec<u32>| v.extend([11, kind::INT << 24, 4, 32]);
        let mut types = Vec::new();
        int(&mut types); // 1
        types.extend([0, kind::STRUCT << 24 | 1, 4, 7, 1, 0]); // 2: { int c }
        types.extend([0, kind::UNION << 24 | 2, 4, 5, 1, 0, 9, 2, 0]); // 3: { int b; 2 d }
        types.extend([1, kind::STRUCT << 24 | 2, 8, 3, 1, 0, 0, 3, 32]); // 4: s
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let (type_len, string_len) =
            (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
        let mut out: Vec<u8> = [0x0001_eb9f, 24, 0, type_len, type_len, string_len]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn members_are_found_through_anonymous_and_nested_types() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.member_offset("s", "a").unwrap(), Some(0));
        assert_eq!(btf.member_offset("s", "b").unwrap(), Some(4));
        assert_eq!(btf.member_offset("s", "d.c").unwrap(), Some(4));
        assert_eq!(btf.member_offset("s", "x").unwrap(), None);
        assert_eq!(btf.member_offset("t", "a").unwrap(), None);
    }

    #[test]
    fn types_are_found_by_kind_and_name() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.id_of(kind::STRUCT, "s"), Some(4));
        assert_eq!(btf.id_of(kind::INT, "int"), Some(1));
        assert_eq!(btf.function_id("s"), None);
        assert_eq!(btf.typedef_id("none"), None);
    }

    #[test]
    fn a_field_takes_its_first_place_that_exists_and_is_refused_without_one() {
        let btf = Btf::parse(sample()).unwrap();
        let field = |places| Field { name: "F", places };
        assert_eq!(btf.offset(&field(&[("s", "old"), ("s", "b")])).unwrap(), 4);
        let refused = btf.offset(&field(&[("s", "old"), ("t", "b")])).unwrap_err();
        assert!(refused.to_string().contains("s.old or t.b"));
    }

    #[test]
    fn cut_and_garbled_input_is_an_error_and_no_panic() {
        let whole = sample();
        for len in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..len].to_vec()) {
                let _ = btf.member_offset("s", "d.c");
            }
        }
        for at in 0..whole.len() {
            let mut garbled = whole.clone();
            garbled[at] ^= 0xff;
            if let Ok(btf) = Btf::parse(garbled) {
                let _ = btf.member_offset("s", "d.c");
            }
        }
    }
}
