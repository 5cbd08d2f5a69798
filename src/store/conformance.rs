//! What every store must do.

use super::{Batch, Memory, Sqlite, Store, verify};
use crate::model::record::Record;
use crate::model::{Epoch, Timestamp, WallTime};

fn record(n: u64) -> Record {
    Record {
        cluster: "c".into(),
        at: Timestamp(n),
        wall: WallTime(0),
        epoch: Epoch(1),
        rule: 101,
        actor: "plane".into(),
        kind: "phase".into(),
        text: format!("record {n}"),
        data: serde_json::json!({"z": 1, "a": [1.5, null, "ü"]}),
    }
}

fn keeps_what_it_was_given(store: &mut dyn Store) {
    let documents = [("voter", "one".to_owned())];
    let batch = Batch {
        at: Timestamp(7),
        records: &[record(1), record(2)],
        journal: &["input".to_owned()],
        documents: &documents,
    };
    store.append(&batch).unwrap();
    let documents = [("voter", "two".to_owned())];
    store
        .append(&Batch {
            at: Timestamp(8),
            records: &[record(3)],
            journal: &[],
            documents: &documents,
        })
        .unwrap();
    assert_eq!(store.document("voter").unwrap().as_deref(), Some("two"));
    assert_eq!(store.document("nobody").unwrap(), None);
    assert_eq!(store.journal().unwrap(), ["input"]);
    assert_eq!(store.record_count().unwrap(), 3);
    let texts: Vec<_> = store.records(2, 10).unwrap().into_iter().map(|r| r.record.text).collect();
    assert_eq!(texts, ["record 2", "record 3"]);
    assert_eq!(verify(store).unwrap(), Ok(3));
}

#[test]
fn the_memory_store_conforms() {
    keeps_what_it_was_given(&mut Memory::default());
}

#[test]
fn the_sqlite_store_conforms_and_continues_its_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite");
    keeps_what_it_was_given(&mut Sqlite::open(&path).unwrap());
    let mut again = Sqlite::open(&path).unwrap();
    again.append(&Batch { records: &[record(4)], ..Batch::default() }).unwrap();
    assert_eq!(verify(&again).unwrap(), Ok(4));
}

#[test]
fn a_store_is_written_whole_to_a_new_file() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite");
    let inode = || std::fs::metadata(&path).unwrap().ino();
    let mut store = Sqlite::open_alone(&path).unwrap();
    keeps_what_it_was_given(&mut store);
    let before = inode();
    store.rewrite().unwrap();
    assert_ne!(inode(), before);
    store.append(&Batch { records: &[record(4)], ..Batch::default() }).unwrap();
    assert_eq!(verify(&store).unwrap(), Ok(4));
    // Where the new file cannot be made the old one stays, and goes on.
    std::fs::create_dir(folder.path().join("s.sqlite-next")).unwrap();
    let before = inode();
    store.rewrite().unwrap_err();
    assert_eq!(inode(), before);
    store.append(&Batch { records: &[record(5)], ..Batch::default() }).unwrap();
    drop(store);
    assert_eq!(verify(&Sqlite::open(&path).unwrap()).unwrap(), Ok(5));
    let other = Sqlite::open_alone(&path).unwrap();
    assert!(Sqlite::open_alone(&path).is_err(), "one process alone");
    drop(other);
}

#[test]
fn no_room_is_told_apart_from_a_disk_that_fails() {
    use super::StoreError;
    let of = |code: i32| {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        StoreError::of("s".into(), "be read", error)
    };
    use rusqlite::ffi;
    assert!(matches!(of(ffi::SQLITE_FULL), StoreError::Full { .. }));
    for code in [ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_CORRUPT] {
        assert!(of(code).is_broken(), "{code}");
    }
    assert!(matches!(of(ffi::SQLITE_BUSY), StoreError::Database { .. }));
}

#[test]
fn a_changed_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite");
    keeps_what_it_was_given(&mut Sqlite::open(&path).unwrap());
    let other = rusqlite::Connection::open(&path).unwrap();
    let refused = other
        .execute("UPDATE record SET body = replace(body, 'record 2', 'record 9')", [])
        .unwrap_err();
    assert!(refused.to_string().contains("never rewritten"), "{refused}");
    other
        .execute_batch(
            "DROP TRIGGER record_is_final; UPDATE record SET body = replace(body, \
        'record 2', 'record 9')",
        )
        .unwrap();
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(verify(&store).unwrap().unwrap_err().number, 2);
}
