//! Journals: any text replays or is refused with its line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        quorate::cli::bytes::journal(text);
    }
});
