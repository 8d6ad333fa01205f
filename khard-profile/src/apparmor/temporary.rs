//! Owns the shapes of names that programs and kernels make up, and who makes them. Knows no paths and no rules.

use super::pattern::{Alphabet, Piece};

/// One maker of names.
struct Maker {
    /// What the name is made of.
    shape: &'static [Part],
    /// Only where the name was seen to be made new: the shape alone could be an ordinary name.
    made: bool,
}

enum Part {
    /// This text.
    Text(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Between two numbers of characters of an alphabet.
    Random(Alphabet, u8, u8),
    /// Nothing, or a dot and anything.
    Extension,
}

use Alphabet::{Alphanumeric, Digits, Hex, Python};
use Part::{Extension, OneOf, Random, Text};

/// `PID_MAX_LIMIT` is 4,194,304 (include/linux/threads.h).
const PROCESS: Part = Random(Digits, 1, 7);

/// The shapes, each with its source.
const MAKERS: [Maker; 20] = [
    // NFS: `.nfs`, the file's id in 16 digits and a counter in 8 (SILLYNAME_* in fs/nfs/unlink.c).
    Maker { shape: &[Text(".nfs"), Random(Hex, 24, 24)], made: false },
    // libfuse: `.fuse_hidden%08x%08x` (hidden_name() in lib/fuse.c).
    Maker { shape: &[Text(".fuse_hidden"), Random(Hex, 16, 16)], made: false },
    // The kubelet's projected volumes: os.MkdirTemp with a time (newTimestampDir() in pkg/volume/util/atomic_writer.go).
    Maker {
        shape: &[
            Text(".."),
            Random(Digits, 4, 4),
            Text("_"),
            Random(Digits, 2, 2),
            Text("_"),
            Random(Digits, 2, 2),
            Text("_"),
            Random(Digits, 2, 2),
            Text("_"),
            Random(Digits, 2, 2),
            Text("_"),
            Random(Digits, 2, 2),
            Text("."),
            Random(Digits, 1, 10),
        ],
        made: false,
    },
    // mktemp(1): `tmp.` and 10 (default template in coreutils, src/mktemp.c).
    Maker { shape: &[Text("tmp."), Random(Alphanumeric, 10, 10)], made: false },
    // git: git_mkstemp_mode() (object-file.c, pack-write.c, pack-bitmap-write.c, commit-graph.c, ll-merge.c, diff.c).
    Maker {
        shape: &[
            OneOf(&[
                "tmp_obj_",
                "tmp_pack_",
                "tmp_idx_",
                "tmp_rev_",
                "tmp_mtimes_",
                "tmp_bitmap_",
                "tmp_graph_",
                ".merge_file_",
                "git-blob-",
            ]),
            Random(Alphanumeric, 6, 6),
        ],
        made: false,
    },
    // The same (server-info.c, shallow.c, read-cache.c).
    Maker {
        shape: &[OneOf(&["packs_", "refs_", "shallow_", "sharedindex_"]), Random(Alphanumeric, 6, 6)],
        made: true,
    },
    // git repack: the process's id, and what the pack will be called (builtin/repack.c).
    Maker { shape: &[Text(".tmp-"), PROCESS, Text("-pack-"), Random(Hex, 40, 40), Extension], made: false },
    // redis: the process's id (src/rdb.c, src/aof.c).
    Maker { shape: &[Text("temp-"), PROCESS, Text(".rdb")], made: false },
    Maker { shape: &[Text("temp-rewriteaof-"), PROCESS, Text(".aof")], made: false },
    Maker { shape: &[Text("temp-rewriteaof-bg-"), PROCESS, Text(".aof")], made: false },
    // PostgreSQL: the process's id (src/backend/access/transam/xlog.c, utils/cache/relcache.c, storage/file/fd.c), and for shared
    // memory a 32-bit number (storage/ipc/dsm_impl.c).
    Maker { shape: &[Text("xlogtemp."), PROCESS], made: false },
    Maker { shape: &[Text("pg_internal.init."), PROCESS], made: false },
    Maker { shape: &[Text("pgsql_tmp"), PROCESS, Text("."), Random(Digits, 1, 10)], made: false },
    Maker { shape: &[Text("PostgreSQL."), Random(Digits, 1, 10)], made: false },
    // Go's toolchain: os.MkdirTemp("", "go-build"), which appends a 32-bit number (src/os/tempfile.go).
    Maker { shape: &[Text("go-build"), Random(Digits, 1, 10)], made: false },
    // gcc: `ccXXXXXX` and a suffix (make_temp_file() in libiberty/make-temp-file.c).
    Maker { shape: &[Text("cc"), Random(Alphanumeric, 6, 6), Extension], made: true },
    // Python: 8 of `abcdefghijklmnopqrstuvwxyz0123456789_` after `tmp` (Lib/tempfile.py).
    Maker { shape: &[Text("tmp"), Random(Python, 8, 8), Extension], made: true },
    // sed -i: `sedXXXXXX` (sed/execute.c).
    Maker { shape: &[Text("sed"), Random(Alphanumeric, 6, 6)], made: true },
    // tmpnam(3), tempnam(3) and tmpfile(3): `file` and 6 (stdio-common/tempname.c).
    Maker { shape: &[Text("file"), Random(Alphanumeric, 6, 6)], made: true },
    // A UUID as a name of its own.
    Maker {
        shape: &[
            Random(Hex, 8, 8),
            Text("-"),
            Random(Hex, 4, 4),
            Text("-"),
            Random(Hex, 4, 4),
            Text("-"),
            Random(Hex, 4, 4),
            Text("-"),
            Random(Hex, 12, 12),
            Extension,
        ],
        made: true,
    },
];

/// The pieces of a name that was made up; `None` if it does not look so. `made`: the name was seen to be made new, by
/// `O_EXCL` or by a call that never takes an existing one.
pub(super) fn pieces(name: &[u8], made: bool) -> Option<Vec<Piece>> {
    let known = MAKERS.iter().filter(|maker| made || !maker.made);
    known.into_iter().find_map(|maker| fit(maker.shape, name)).or_else(|| {
        if !made {
            return None;
        }
        // mkstemp(3) at the end, mkstemps(3) before an extension.
        let stem = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
        tail(name, name.len()).or_else(|| tail(name, stem?))
    })
}

fn fit(shape: &[Part], name: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = name;
    for part in shape {
        match part {
            Text(text) => {
                rest = rest.strip_prefix(text.as_bytes())?;
                pieces.push(Piece::Literal((*text).into()));
            }
            OneOf(texts) => {
                let text = texts.iter().find(|text| rest.starts_with(text.as_bytes()))?;
                rest = &rest[text.len()..];
                pieces.push(Piece::Literal((*text).into()));
            }
            Random(alphabet, min, max) => {
                let n =
                    rest.iter().take(usize::from(*max)).take_while(|byte| alphabet.contains(**byte)).count();
                if n < usize::from(*min) {
                    return None;
                }
                rest = &rest[n..];
                pieces.push(Piece::Random { alphabet: *alphabet, min: *min, max: *max });
            }
            Extension => {
                if !rest.is_empty() && rest[0] != b'.' {
                    return None;
                }
                pieces.push(Piece::Literal(rest.into()));
                rest = &[];
            }
        }
    }
    rest.is_empty().then_some(pieces)
}

/// How many characters mkstemp(3) makes up.
const MKSTEMP: usize = 6;
/// The longest run of characters that is taken for made up; 64 is a hash.
const LONGEST: usize = 64;

/// What is made up before `end`: the run of letters and digits there, or, if it is a whole name that begins with a word,
/// its last six.
fn tail(name: &[u8], end: usize) -> Option<Vec<Piece>> {
    let n_run = name[..end].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let run = &name[end - n_run..end];
    let n_digits = run.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (n, piece) = match (n_run, n_digits) {
        // os.CreateTemp of Go: a 32-bit number; of shorter ones there is one in a hundred (src/os/tempfile.go).
        (_, 8..=10) if n_digits == n_run || looks_like_a_word(&run[..n_run - n_digits]) => {
            (n_digits, Piece::Random { alphabet: Digits, min: 8, max: 10 })
        }
        // File.createTempFile of Java: a 64-bit number; of shorter ones there is one in a thousand (java.io.File).
        (_, 17..=20) => (n_digits, Piece::Random { alphabet: Digits, min: 17, max: 20 }),
        (12..=LONGEST, _) if run.iter().all(|byte| Hex.contains(*byte)) => (n_run, Piece::random(Hex, n_run)),
        // A template without a separator, such as `sedXXXXXX`.
        (MKSTEMP.., _)
            if n_run == end
                && looks_like_a_word(&run[..n_run - MKSTEMP])
                && looks_made_up(&run[n_run - MKSTEMP..]) =>
        {
            (MKSTEMP, Piece::random(Alphanumeric, MKSTEMP))
        }
        (MKSTEMP..=LONGEST, _) if looks_made_up(run) => (n_run, Piece::random(Alphanumeric, n_run)),
        _ => return None,
    };
    let literal = |bytes: &[u8]| Piece::Literal(bytes.into());
    Some(vec![literal(&name[..end - n]), piece, literal(&name[end..])])
}

fn looks_like_a_word(run: &[u8]) -> bool {
    run.iter().all(u8::is_ascii_alphabetic)
}

/// Mixed as no word, no number and no word with a number is. Of 100 names that mkstemp(3) makes, 2 look like one of these.
fn looks_made_up(run: &[u8]) -> bool {
    let n_digits = run.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let word = &run[..run.len() - n_digits];
    let is_small = looks_like_a_word(word) && word.iter().skip(1).all(u8::is_ascii_lowercase);
    let is_word = is_small && n_digits <= 4 || run.iter().all(u8::is_ascii_uppercase);
    !is_word && n_digits < run.len()
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    fn glob(name: &str, made: bool) -> Option<String> {
        let pattern = Pattern::from_iter(pieces(name.as_bytes(), made)?);
        assert!(pattern.matches(name.as_bytes()), "{name}: {pattern:?}");
        let text = pattern.to_text();
        Some(text.replace("[0-9A-Za-z]", "X").replace("[0-9a-f]", "h").replace("[0-9]", "d").replace('"', ""))
    }

    #[test]
    fn names_of_known_makers_are_known_without_having_been_made() {
        assert_eq!(glob("tmp.a1B2c3D4e5", false).unwrap(), "tmp.XXXXXXXXXX");
        assert_eq!(glob("tmp_obj_aaaaaa", false).unwrap(), "tmp_obj_XXXXXX");
        assert_eq!(glob("tmp_rev_aaaaaa", false).unwrap(), "tmp_rev_XXXXXX");
        assert_eq!(glob(&format!(".nfs{:024x}", 7), false).unwrap(), format!(".nfs{}", "h".repeat(24)));
        assert!(
            glob("..2026_11_24_15_07_13.123456789", false)
                .unwrap()
                .starts_with("..dddd_dd_dd_dd_dd_dd.{d,dd,")
        );
        assert!(glob("temp-1029.rdb", false).unwrap().starts_with("temp-{d,"));
        assert!(glob("temp-rewriteaof-bg-7.aof", false).unwrap().contains("}.aof"));
        assert!(glob(&format!(".tmp-264-pack-{}.pack", "0a".repeat(20)), false).unwrap().contains("h.pack"));
        assert!(glob("pgsql_tmp173.0", false).is_some() && glob("PostgreSQL.1234567890", false).is_some());
        for ordinary in [
            "temp-.rdb",
            "temp-12345678.rdb",
            "xlogtemp.conf",
            "passwd",
            "ccompare.c",
            "tmpdirectory",
            "tmp.conf",
            "fileserver",
            "tmp_obj_aaaaaaa",
            "refs_master",
            "..data",
        ] {
            assert_eq!(glob(ordinary, false), None, "{ordinary}");
        }
    }

    #[test]
    fn what_was_made_new_is_generalised_where_it_looks_made_up() {
        for (name, expected) in [
            ("ccW1ndow.s", "ccXXXXXX.s"),
            ("sedAbCdEf", "sedXXXXXX"),
            // No mixture tells it from a word: one in 50 such names is of small letters.
            ("packs_qkalwo", "packs_XXXXXX"),
            ("config.Xy12zQ", "config.XXXXXX"),
            ("uploadXy12zQ.part", "uploadXXXXXX.part"),
            (".passwd.a8Zk2P", ".passwd.XXXXXX"),
            ("dump-0123456789abcdef", "dump-hhhhhhhhhhhhhhhh"),
            ("render123456789.png", "render{dddddddd,ddddddddd,dddddddddd}.png"),
        ] {
            assert_eq!(glob(name, true).as_deref(), Some(expected), "{name}");
        }
        assert!(glob("tmpab_9xyz0", true).is_some());
        for lock in
            ["nginx.pid", "lock-frontend", "db.sqlite3", "Makefile", "README", "app.lock", "host123", "a", ""]
        {
            assert_eq!(glob(lock, true), None, "{lock}");
        }
    }
}
