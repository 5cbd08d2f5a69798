//! Compiles the .proto with protox, so that no protoc is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=src/wire/quorate.proto");
    let descriptors = protox::compile(["quorate.proto"], ["src/wire"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
