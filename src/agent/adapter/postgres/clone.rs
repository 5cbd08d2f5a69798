//! A new copy of the upstream in the folders that this node's database lies in: the data directory,
//! its log where that lies elsewhere, and every tablespace. The copy grows inside each of them,
//! so that a mount point or a parent of somebody else is no obstacle; what was here before
//! stays, and goes on running if it does, until the copy is whole.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;

use super::unfinished::{self, Exchange, Unfinished};
use super::{Done, Driver, Failed, configuration, failed, rebuild};
use crate::agent::host::{self, FolderId, processes};
use crate::agent::machine::Upstream;
use crate::model::observation::ResourceState;

/// In each folder: the copy, until it is whole.
const NEXT: &str = "quorate.cloning";
/// In each folder: what was here before, until the copy has its place.
const OLD: &str = "quorate.old";
/// Room that stays free beside a copy: log that is written meanwhile.
const RESERVE: u64 = 64 << 20;
/// The upstream counts its files.
const SIZES_MAX: Duration = Duration::from_secs(60);
/// How often progress is told.
pub(super) const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// A tablespace of the upstream, or its default one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Space {
    oid: String,
    bytes: u64,
    /// Where it lies there; `None`: in the data directory.
    theirs: Option<PathBuf>,
}

const SPACES: &str = "SELECT oid, pg_tablespace_size(oid), pg_tablespace_location(oid) \
    FROM pg_tablespace";

fn spaces(said: &str) -> Option<Vec<Space>> {
    let space = |line: &str| {
        let mut parts = line.splitn(3, '|');
        let (oid, bytes, place) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let theirs = Some(PathBuf::from(place)).filter(|p| p.is_absolute());
        Some(Space { oid: oid.to_owned(), bytes, theirs })
    };
    said.lines().filter(|l| !l.is_empty()).map(space).collect()
}

/// Where the parts of a copy go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    /// The log, where it does not lie in the data directory.
    wal: Option<PathBuf>,
    /// The upstream's place and the own one of every tablespace, by its number.
    spaces: BTreeMap<String, (PathBuf, PathBuf)>,
}

impl Places {
    fn folders(&self, data_dir: &Path) -> Vec<PathBuf> {
        let spaces = self.spaces.values().map(|(_, own)| own.clone());
        std::iter::once(data_dir.to_owned()).chain(self.wal.clone()).chain(spaces).collect()
    }
}

impl Driver {
    /// A copy of `upstream`. An unfinished copy is thrown away; what was here before goes when the
    /// copy is whole.
    pub(super) async fn clone_from(&mut self, upstream: &Upstream) -> Done {
        self.state(ResourceState::Rebuilding);
        self.facts.trouble = format!("cloning {}", upstream.node);
        self.tell().await;
        self.setup.programs.end_leftovers().await.map_err(Failed)?;
        let data_dir = self.setup.config.data_dir.clone();
        make_private(&data_dir)?;
        let said = self.psql(upstream, SIZES_MAX, &[SPACES]).await?;
        let theirs =
            spaces(&said).ok_or_else(|| Failed(format!("{} answered {said:?}", upstream.node)))?;
        let places = places(&data_dir, &theirs)?;
        let folders = places.folders(&data_dir);
        sweep(&folders)?;
        has_room(&data_dir, &places, &theirs)?;
        let disks = Disks::of(&folders)?;
        let Some(source) = self.conninfo(&upstream.node, rebuild::TOOL) else {
            return failed("no way to it is configured");
        };
        let (next, wal) = (data_dir.join(NEXT), places.wal.clone());
        let mapped: Vec<String> = places.spaces.values().map(|(t, o)| mapping(t, o)).collect();
        let doing = format!("cloning {}", upstream.node);
        self.run_shown("pg_basebackup", &doing, move |c| {
            c.arg("-D").arg(next);
            c.args(["-X", "stream", "-c", "fast", "--no-sync", "--progress", "-d"]).arg(source);
            if let Some(wal) = wal {
                c.arg("--waldir").arg(wal.join(NEXT));
            }
            mapped.into_iter().for_each(|m| _ = c.args(["--tablespace-mapping".to_owned(), m]));
        })
        .await?;
        self.point_home(&places)?;
        disks.flush()?;
        configuration::keep(&data_dir, &self.setup.state_dir)?;
        if self.adopt() {
            self.stop_gracefully().await?;
        }
        let stays = places.wal.iter().map(|_| "pg_wal".to_owned()).collect();
        let exchange = Exchange { out: true, folders, stays };
        unfinished::write(&self.setup, &Unfinished::Exchange(exchange.clone()))?;
        self.exchange(exchange)?;
        tracing::info!("cloned {}", upstream.node);
        self.note_rebuilt()
    }

    /// The links of the copy lead to where it will be.
    fn point_home(&self, places: &Places) -> Done {
        let data_dir = &self.setup.config.data_dir;
        let next = data_dir.join(NEXT);
        for (oid, (_, own)) in &places.spaces {
            let link = next.join("pg_tblspc").join(oid);
            // One that was made since the upstream was asked was not copied where it belongs.
            std::fs::remove_file(&link)?;
            symlink(own, &link)?;
        }
        if let Some(wal) = &places.wal {
            std::fs::remove_file(next.join("pg_wal"))?;
            if std::fs::symlink_metadata(data_dir.join("pg_wal")).is_err() {
                symlink(wal, data_dir.join("pg_wal"))?;
            }
        }
        Ok(())
    }

    /// A whole copy that an earlier process of this agent was putting into its place.
    pub(super) async fn carry_on_exchange(&mut self) -> Done {
        let Some(Unfinished::Exchange(exchange)) = unfinished::read(&self.setup) else {
            return Ok(());
        };
        self.clear_the_way().await?;
        self.exchange(exchange)?;
        self.note_rebuilt()
    }

    fn exchange(&self, mut exchange: Exchange) -> Done {
        let disks = Disks::of(&exchange.folders)?;
        if exchange.out {
            for folder in &exchange.folders {
                move_out(folder, &exchange.stays)?;
            }
            disks.flush()?;
            exchange.out = false;
            unfinished::write(&self.setup, &Unfinished::Exchange(exchange.clone()))?;
        }
        for folder in &exchange.folders {
            move_in(folder)?;
        }
        configuration::put_back(&self.setup.config.data_dir, &self.setup.state_dir)?;
        disks.flush()?;
        unfinished::remove(&self.setup)?;
        Ok(sweep(&exchange.folders)?)
    }

    /// A server that goes on while its folder's next copy is made is looked at as ever.
    async fn look_beside(&mut self) {
        if self.exit.is_none() {
            return;
        }
        let shown = (self.facts.state.clone(), self.facts.since);
        self.look().await;
        if self.resource.writable {
            self.stop_stray(
                "it accepted writes without a lease (promoted by hand beside a rebuild)",
            )
            .await;
        }
        (self.facts.state, self.facts.since) = shown;
    }

    /// Runs a program, and shows how far it is.
    pub(super) async fn run_shown(
        &mut self,
        program: &str,
        doing: &str,
        configure: impl FnOnce(&mut Command),
    ) -> Done {
        let (told, mut lines) = watch::channel(String::new());
        let programs = self.setup.programs.clone();
        let mut run = std::pin::pin!(programs.run_telling(program, configure, Some(told)));
        let mut shown = tokio::time::interval(SHOWN_EVERY);
        loop {
            tokio::select! {
                biased;
                done = &mut run => return Ok(done.map(|_| ())?),
                _ = shown.tick() => {
                    self.look_beside().await;
                    let line = lines.borrow_and_update().clone();
                    self.facts.trouble =
                        if line.is_empty() { doing.to_owned() } else { format!("{doing}: {line}") };
                    self.tell().await;
                }
            }
        }
    }
}

/// The server starts in no folder that others can look into.
fn make_private(data_dir: &Path) -> Done {
    let words = |e: std::io::Error| Failed(format!("{}: {e}", data_dir.display()));
    std::fs::create_dir_all(data_dir).map_err(words)?;
    let mode = std::fs::metadata(data_dir).map_err(words)?.mode();
    if mode & 0o027 == 0 {
        return Ok(());
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(data_dir, private).map_err(words)
}

/// Where the parts of a copy of these tablespaces go on this node.
fn places(data_dir: &Path, theirs: &[Space]) -> Result<Places, Failed> {
    let mut places = Places { wal: wal_elsewhere(data_dir)?, ..Places::default() };
    for space in theirs {
        let Some(there) = &space.theirs else { continue };
        let own = own_place(data_dir, &space.oid, there)?;
        std::fs::create_dir_all(&own).map_err(|e| {
            Failed(format!("the tablespace folder {} cannot be made: {e}", own.display()))
        })?;
        places.spaces.insert(space.oid.clone(), (there.clone(), own));
    }
    Ok(places)
}

/// The folder of the log, where a link leads to it or it is a mount point.
fn wal_elsewhere(data_dir: &Path) -> Result<Option<PathBuf>, Failed> {
    let wal = data_dir.join("pg_wal");
    if let Ok(target) = std::fs::read_link(&wal) {
        let folder = data_dir.join(target);
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failed(format!("the log's folder {}: {e}", folder.display())))?;
        return Ok(Some(folder));
    }
    let device = |path: &Path| std::fs::metadata(path).ok().map(|m| m.dev());
    let mounted = device(&wal).is_some_and(|dev| Some(dev) != device(data_dir));
    Ok(mounted.then_some(wal))
}

/// A tablespace stays where it is on this node. One that is new lies where it does at the upstream,
/// unless another server of this host has that folder: then beside the data directory.
fn own_place(data_dir: &Path, oid: &str, there: &Path) -> Result<PathBuf, Failed> {
    let here = std::fs::read_link(data_dir.join("pg_tblspc").join(oid)).ok();
    let place = here.clone().unwrap_or_else(|| there.to_owned());
    if of_another_server(data_dir, &place) {
        return Ok(data_dir.with_extension("tablespaces").join(oid));
    }
    let empty = std::fs::read_dir(&place).map_or(true, |mut entries| {
        entries.all(|e| e.is_ok_and(|e| is_left_alone(&e.file_name().to_string_lossy())))
    });
    if here.is_none() && !empty {
        return failed(format!(
            "the tablespace folder {} is not empty, and nothing in {} says that what is in it was \
             this node's: nothing was touched. Empty it, or move what is in it away",
            place.display(),
            data_dir.display()
        ));
    }
    Ok(place)
}

/// Whether a server of this host that works in another data directory has a tablespace there.
fn of_another_server(data_dir: &Path, folder: &Path) -> bool {
    let (Ok(own), Ok(folder)) = (FolderId::of(data_dir), FolderId::of(folder)) else {
        return false;
    };
    processes::all().any(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let cwd = process.join("cwd");
        if FolderId::of(&cwd).is_ok_and(|id| id == own) {
            return false;
        }
        let spaces = std::fs::read_dir(cwd.join("pg_tblspc")).into_iter().flatten().flatten();
        spaces.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| {
            // As that process sees it: it may have mounts of its own.
            let seen = process.join("root").join(target.strip_prefix("/").unwrap_or(&target));
            FolderId::of(&seen).is_ok_and(|id| id == folder)
        })
    })
}

/// Says before anything is copied where two copies have no room.
fn has_room(data_dir: &Path, places: &Places, theirs: &[Space]) -> Done {
    let mut needed: BTreeMap<u64, (u64, PathBuf)> = BTreeMap::new();
    for space in theirs {
        let own = places.spaces.get(&space.oid).map_or(data_dir, |(_, own)| own.as_path());
        let device = std::fs::metadata(own)?.dev();
        needed.entry(device).or_insert_with(|| (RESERVE, own.to_owned())).0 += space.bytes;
    }
    for (bytes, folder) in needed.values() {
        let (free, total) = host::disk(folder);
        if total > 0 && free < *bytes {
            return failed(format!(
                "{} has {} MiB free and the copy takes {} MiB beside what is there: nothing was \
                 touched. Make room; or, where this copy may be given up before the new one is \
                 whole, stop this agent, empty {}, and start the agent again",
                folder.display(),
                free >> 20,
                bytes >> 20,
                data_dir.display()
            ));
        }
    }
    Ok(())
}

/// `=` in a path is escaped.
fn mapping(theirs: &Path, own: &Path) -> String {
    let quoted = |path: &Path| path.display().to_string().replace('=', "\\=");
    format!("{}={}", quoted(theirs), quoted(&own.join(NEXT)))
}

/// What is no part of a database: a file system's own, and what is hidden.
fn is_left_alone(name: &str) -> bool {
    name == "lost+found" || name.starts_with('.')
}

/// Leftovers of earlier copies.
fn sweep(folders: &[PathBuf]) -> std::io::Result<()> {
    for leftover in folders.iter().flat_map(|f| [f.join(NEXT), f.join(OLD)]) {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover)?;
        }
    }
    Ok(())
}

/// The file systems of some folders, from a moment on: what could not be written to one of them
/// since then is found when it is flushed (`syncfs(2)`, Linux 5.8; `sync(2)` reports nothing).
struct Disks(Vec<(PathBuf, std::fs::File)>);

impl Disks {
    fn of(folders: &[PathBuf]) -> std::io::Result<Self> {
        let open = |f: &PathBuf| Ok((f.clone(), std::fs::File::open(f)?));
        folders.iter().map(open).collect::<std::io::Result<_>>().map(Self)
    }

    fn flush(&self) -> Done {
        for (folder, file) in &self.0 {
            rustix::fs::syncfs(file).map_err(|error| {
                Failed(format!(
                    "the disk of {} did not take the copy ({error}): what was here before stays; \
                     look at that disk",
                    folder.display()
                ))
            })?;
        }
        Ok(())
    }
}

fn move_out(folder: &Path, stays: &[String]) -> std::io::Result<()> {
    let old = folder.join(OLD);
    std::fs::create_dir_all(&old)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let ours = text == NEXT || text == OLD || stays.iter().any(|s| *s == text);
        if !ours && !is_left_alone(&text) {
            match std::fs::rename(entry.path(), old.join(&name)) {
                Err(e) if is_anothers(&entry, &e) => {
                    tracing::info!("{}: stays, it is another user's", entry.path().display());
                }
                done => done.map_err(|e| at(&entry.path(), &e))?,
            }
        }
    }
    Ok(())
}

/// A folder that somebody else made beside the database, and that this user cannot move: its
/// owner's, as his configuration is.
fn is_anothers(entry: &std::fs::DirEntry, error: &std::io::Error) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let servers = name == "base" || name == "global" || name.starts_with("pg_");
    !servers
        && error.kind() == std::io::ErrorKind::PermissionDenied
        && entry.file_type().is_ok_and(|t| t.is_dir())
}

/// An error without its path tells nobody what to mend.
fn at(path: &Path, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn move_in(folder: &Path) -> std::io::Result<()> {
    let next = folder.join(NEXT);
    if !next.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(&next)? {
        let entry = entry?;
        let to = folder.join(entry.file_name());
        match std::fs::rename(entry.path(), &to) {
            // What stayed is there already.
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                tracing::info!("{}: stays as it is here", to.display());
                std::fs::remove_dir_all(entry.path())?;
            }
            done => done.map_err(|e| at(&to, &e))?,
        }
    }
    std::fs::remove_dir(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top() -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let data = top.path().join("data");
        std::fs::create_dir_all(data.join("pg_tblspc")).unwrap();
        (top, data)
    }

    #[test]
    fn an_exchange_that_is_cut_short_is_carried_on() {
        let (_top, data) = top();
        std::fs::create_dir_all(data.join(NEXT)).unwrap();
        for (place, text) in
            [("PG_VERSION", "old"), ("gone", "old"), ("quorate.cloning/PG_VERSION", "new")]
        {
            std::fs::write(data.join(place), text).unwrap();
        }
        std::fs::create_dir(data.join("pg_wal")).unwrap();
        let stays = ["pg_wal".to_owned()];
        // Each half may be begun, cut short, and done again.
        move_out(&data, &stays).unwrap();
        move_out(&data, &stays).unwrap();
        assert!(!data.join("PG_VERSION").exists() && data.join("pg_wal").exists());
        move_in(&data).unwrap();
        move_in(&data).unwrap();
        assert_eq!(std::fs::read_to_string(data.join("PG_VERSION")).unwrap(), "new");
        sweep(std::slice::from_ref(&data)).unwrap();
        assert!(!data.join("gone").exists() && !data.join(OLD).exists());
    }

    #[test]
    fn a_tablespace_stays_where_it_is_and_nobody_elses_folder_is_taken() {
        let (top, data) = top();
        let (here, there) = (top.path().join("here"), top.path().join("there"));
        std::fs::create_dir(&here).unwrap();
        assert_eq!(own_place(&data, "1", &there).unwrap(), there, "it is not there yet");
        symlink(&here, data.join("pg_tblspc/2")).unwrap();
        std::fs::create_dir(here.join("PG_15")).unwrap();
        assert_eq!(own_place(&data, "2", &there).unwrap(), here);
        std::fs::create_dir_all(there.join("lost+found")).unwrap();
        assert_eq!(own_place(&data, "1", &there).unwrap(), there);
        std::fs::create_dir(there.join("PG_15")).unwrap();
        assert!(own_place(&data, "1", &there).unwrap_err().0.contains("is not empty"));
    }

    #[test]
    fn log_elsewhere_is_seen_by_its_link() {
        let (top, data) = top();
        assert_eq!(wal_elsewhere(&data).unwrap(), None);
        symlink(top.path().join("wal"), data.join("pg_wal")).unwrap();
        assert_eq!(wal_elsewhere(&data).unwrap(), Some(top.path().join("wal")));
        assert!(top.path().join("wal").is_dir());
    }

    #[test]
    fn what_the_upstream_says_of_its_tablespaces_is_read() {
        let said = "1663|7340032|\n1664|600000|\n16384|1000|/a=b\n16385|10|pg_tblspc/16385\n";
        let found = spaces(said).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[2].theirs.as_deref(), Some(Path::new("/a=b")));
        assert_eq!(found[3].theirs, None, "it lies in the data directory");
        assert_eq!(mapping(Path::new("/a=b"), Path::new("/c")), "/a\\=b=/c/quorate.cloning");
        assert_eq!(spaces("ERROR"), None);
    }
}
