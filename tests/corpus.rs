//! Everything the fuzzer has found interesting enough to keep (`tests/fuzz/corpus`), through the
//! same doors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

fn each(target: &str, door: impl Fn(&[u8]) -> bool) -> (usize, usize) {
    let folder = std::path::Path::new("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let understood = files.iter().filter(|f| door(&std::fs::read(f).unwrap())).count();
    (understood, files.len())
}

fn text(door: impl Fn(&str) -> bool) -> impl Fn(&[u8]) -> bool {
    move |data| std::str::from_utf8(data).is_ok_and(&door)
}

#[test]
fn the_corpus_is_understood_or_refused() {
    for (target, (understood, files)) in [
        ("cluster", each("cluster", text(quorate::cli::bytes::cluster))),
        ("policy", each("policy", text(quorate::cli::bytes::policy))),
        ("scenario", each("scenario", text(quorate::cli::bytes::scenario))),
        ("journal", each("journal", text(quorate::cli::bytes::journal))),
        ("wire", each("wire", quorate::cli::bytes::wire)),
    ] {
        assert!(
            understood > 0,
            "{target}: none of {files} files is understood: the corpus is stale"
        );
    }
}
