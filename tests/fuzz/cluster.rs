//! cluster.yaml: any text is a cluster or a refusal with a place.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        quorate::cli::bytes::cluster(text);
    }
});
