//! The committed gRPC code is what the protocol definition gives.
//!
//! `DMS_REGENERATE=1 cargo test -p dms-rpc --test generated` writes it anew.

use std::fs;
use std::path::Path;

use protox::prost::Message as _;

const PROTO: &str = "document_service.proto";
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/grpc/generated");

fn generate(into: &Path) {
    let includes = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([includes]).unwrap();
    compiler.include_source_info(true).include_imports(true).open_file(PROTO).unwrap();
    let with_comments = compiler.file_descriptor_set();
    compiler.include_source_info(false);
    let for_reflection = compiler.file_descriptor_set().encode_to_vec();
    fs::write(into.join("document.bin"), for_reflection).unwrap();
    tonic_prost_build::configure()
        .out_dir(into)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(with_comments)
        .unwrap();
}

#[test]
fn generated_code_is_fresh() {
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    let regenerate = std::env::var_os("DMS_REGENERATE").is_some();
    for name in ["document.rs", "document.bin"] {
        let fresh = fs::read(fresh.path().join(name)).unwrap();
        let committed = Path::new(COMMITTED).join(name);
        if regenerate {
            fs::write(committed, fresh).unwrap();
        } else {
            let committed = fs::read(committed).unwrap_or_default();
            assert!(committed == fresh, "{name} is stale: run with DMS_REGENERATE=1 to update");
        }
    }
}
