//! Puts the eBPF object where `bpf/object.rs` includes it: the file that `KHARD_EBPF_OBJECT` names, or an empty
//! stub, so that checks and pure tests need no eBPF toolchain. Loading the stub is an error with a name.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=KHARD_EBPF_OBJECT");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("khard.bpf.o");
    match env::var_os("KHARD_EBPF_OBJECT").filter(|path| !path.is_empty()).map(PathBuf::from) {
        Some(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            fs::copy(&object, out).map_err(|e| format!("cannot copy {}: {e}", object.display()))?;
        }
        None => fs::write(out, [])?,
    }
    Ok(())
}
