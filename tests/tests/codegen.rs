//! Generated code that is committed is what its source gives. Owns how it is generated; knows nothing of its use.
use std::path::{Path, PathBuf};

/// What is written above the generated code: where it comes from, and the lints that machine-made code cannot meet.
const HEADER: &str = "\
//! CRI v1 messages and clients, generated from `proto/cri/v1/api.proto`: do not edit, see `proto/cri/README.md`.
";

fn khard_user() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../khard-user")
}

/// Generates the client code into a folder of its own and returns it.
fn generate_cri() -> String {
    let out = tempfile::tempdir().expect("a temporary folder");
    let proto = khard_user().join("proto/cri/v1");
    let files = protox::compile(["api.proto"], [proto]).expect("the CRI definition compiles");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds(files)
        .expect("Rust code is generated");
    let code =
        std::fs::read_to_string(out.path().join("runtime.v1.rs")).expect("one module per protobuf package");
    format!("{HEADER}{code}")
}

#[test]
fn committed_cri_client_is_what_its_definition_gives() {
    let path = khard_user().join("src/runtime/cri/generated.rs");
    let fresh = generate_cri();
    if std::env::var_os("KHARD_REGENERATE").is_some_and(|v| v == "1") {
        std::fs::write(&path, &fresh).expect("the generated code is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "{} differs from what proto/cri/v1/api.proto gives: run KHARD_REGENERATE=1 cargo test -p khard-tests --test codegen",
        path.display()
    );
}
