//! What comes over the wire, before and after protobuf.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    quorate::cli::bytes::wire(data);
});
