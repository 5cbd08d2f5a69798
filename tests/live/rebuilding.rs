//! A rebuild and what happens meanwhile.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use quorate::lab::{Options, What};

use crate::data::programs;
use crate::{Cluster, quick};

/// The programs, with a `pg_rewind` that does `first` before it touches anything.
fn held_rewind(folder: &Path, real: &Path, first: &str) {
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder, 0o777);
    for program in std::fs::read_dir(real).unwrap() {
        let program = program.unwrap();
        if program.file_name() != "pg_rewind" && program.file_name() != "postgres" {
            std::os::unix::fs::symlink(program.path(), folder.join(program.file_name())).unwrap();
        }
    }
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *--dry-run*|*--version*) ;; *)\n touch {0}/begun\n {first} ;; \
         esac\nexec {1}/pg_rewind \"$@\"\n",
        folder.display(),
        real.display()
    );
    // Where a link leads to is where the agent looks for the others.
    let server = format!("#!/bin/sh\nexec {}/postgres \"$@\"\n", real.display());
    for (name, text) in [("pg_rewind", script), ("postgres", server)] {
        std::fs::write(folder.join(name), text).unwrap();
        open(&folder.join(name), 0o755);
    }
}

/// A claim ended it half-way, and what it left had to be cloned.
#[test]
fn a_rewind_goes_on_to_its_end_whatever_is_claimed_meanwhile() {
    let folder = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
    let go = folder.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    held_rewind(folder.path(), &programs().unwrap(), &wait);
    let options = Options { postgres: Some(folder.path().to_owned()), ..quick() };
    let mut cluster = Cluster::start(options);
    // What its source alone has by the time that it dies would ask for a second rewind.
    cluster.laws.as_ref().unwrap().without_client();
    let former = cluster.primary();
    // A line without a checkpoint of its own cannot be rewound.
    cluster.ok(&former, "checkpoint");
    let control = cluster.file(&former, "data/global/pg_control");
    let before = std::fs::metadata(&control).unwrap().ino();
    cluster.lab().kill(&former, What::Postgres).unwrap();
    cluster.client_sees("a rewind", 60, || folder.path().join("begun").exists());
    // Its source gives the role back: whoever follows it is cut off.
    let source = cluster.until("the next primary", 30, |v| {
        v.primary.as_ref().is_some_and(|p| p.as_str() != former)
    });
    let epoch = source.epoch;
    let source = source.primary.unwrap().as_str().to_owned();
    cluster.lab().kill(&source, What::Postgres).unwrap();
    cluster.until("a later epoch", 60, |v| v.epoch > epoch);
    // What is rewound to a line without a checkpoint of its own believes that it is on the one
    // before. The checkpoint that precedes a rewind was before this line, for this one is held.
    let later = cluster.writer(60);
    cluster.ok(&later, "checkpoint");
    std::fs::write(go, "").unwrap();
    cluster.calm();
    assert_eq!(std::fs::metadata(&control).unwrap().ino(), before, "it was cloned");
}

/// Its source was a host that never answered again: it was waited for without an end.
#[test]
fn a_rewind_that_stands_still_is_ended_and_a_clone_mends_it() {
    let folder = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
    let pipe = folder.path().join("nobody-writes");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(&pipe, std::fs::Permissions::from_mode(0o666)).unwrap();
    held_rewind(folder.path(), &programs().unwrap(), &format!("read _ < {}", pipe.display()));
    let options = Options { postgres: Some(folder.path().to_owned()), ..quick() };
    let mut cluster = Cluster::start(options);
    let former = cluster.primary();
    cluster.ok(&former, "checkpoint");
    let control = cluster.file(&former, "data/global/pg_control");
    let before = std::fs::metadata(&control).unwrap().ino();
    cluster.lab().kill(&former, What::Postgres).unwrap();
    cluster.client_sees("a rewind", 60, || folder.path().join("begun").exists());
    cluster.client_sees("a clone", 90, || {
        std::fs::metadata(&control).is_ok_and(|found| found.ino() != before)
    });
    cluster.calm();
}

/// A copy whose backup never ended: it replays all there is, and never lets anybody in.
#[test]
fn a_copy_that_never_becomes_consistent_is_cloned() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    let standby = if primary == "node-3" { "node-2" } else { "node-3" };
    // Past the checkpoint of its own copy, whose backup did end.
    let redo = || cluster.ok(standby, "select redo_lsn from pg_control_checkpoint()");
    let first = redo();
    cluster.client_sees("a later restart point", 30, || {
        cluster.ok(&primary, "checkpoint");
        cluster.ok(standby, "checkpoint");
        redo() != first
    });
    cluster.lab().kill(standby, What::Host).unwrap();
    let data = cluster.file(standby, "data");
    let said = cluster.postgres("pg_controldata", &[&data.display().to_string()]);
    let value = |name: &str| {
        let line = said.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let label = format!(
        "START WAL LOCATION: {} (file {})\nCHECKPOINT LOCATION: {}\nBACKUP METHOD: streamed\n\
         BACKUP FROM: primary\nSTART TIME: 2026-01-01 00:00:00 GMT\nLABEL: x\nSTART TIMELINE: {}\n",
        value("Latest checkpoint's REDO location"),
        value("Latest checkpoint's REDO WAL file"),
        value("Latest checkpoint location"),
        value("Latest checkpoint's TimeLineID"),
    );
    let path = data.join("backup_label");
    let control = data.join("global/pg_control");
    let owner = std::fs::metadata(&control).unwrap();
    std::fs::write(&path, label).unwrap();
    std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    cluster.lab().heal(standby).unwrap();
    cluster.client_sees("a clone", 90, || {
        std::fs::metadata(&control).is_ok_and(|found| found.ino() != owner.ino())
    });
    cluster.calm();
}
