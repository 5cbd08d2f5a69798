//! A rebuild and what happens meanwhile.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use quorate::lab::{Options, What};

use crate::{Cluster, quick};

/// The programs, with a `pg_rewind` that waits for a file before it touches anything.
fn waiting_rewind(folder: &Path, real: &Path) {
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder, 0o777);
    for program in std::fs::read_dir(real).unwrap() {
        let program = program.unwrap();
        if program.file_name() != "pg_rewind" {
            std::os::unix::fs::symlink(program.path(), folder.join(program.file_name())).unwrap();
        }
    }
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *--dry-run*|*--version*) ;; *)\n touch {0}/begun\n while [ ! -e \
         {0}/go ]; do sleep 0.05; done ;; esac\nexec {1}/pg_rewind \"$@\"\n",
        folder.display(),
        real.display()
    );
    std::fs::write(folder.join("pg_rewind"), script).unwrap();
    open(&folder.join("pg_rewind"), 0o755);
}

/// A claim ended it half-way, and what it left had to be cloned.
#[test]
fn a_rewind_goes_on_to_its_end_whatever_is_claimed_meanwhile() {
    let folder = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
    let real = Path::new("/usr/lib/postgresql/15/bin");
    waiting_rewind(folder.path(), real);
    let options = Options { postgres: Some(folder.path().to_owned()), ..quick() };
    let mut cluster = Cluster::start(options);
    let former = cluster.primary();
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
    std::fs::write(folder.path().join("go"), "").unwrap();
    cluster.calm();
    assert_eq!(std::fs::metadata(&control).unwrap().ino(), before, "it was cloned");
}
