//! Servers of this host that take writes on a copy of this node's data: a second writer that no
//! setting of ours reaches. They are seen and said; nobody else's process is ended.

use std::path::{Path, PathBuf};

use super::adapter::postgres::{is_in_production, system_identifier};
use super::host::{FolderId, processes};

/// Lines of `postmaster.pid` (miscinit.c): the process, the folder, the start, the port.
const PORT: usize = 3;

/// Each in words. `others` are ports on this host of other nodes of the cluster: in a lab.
pub(super) fn look(data_dir: &Path, others: &[u16]) -> Vec<String> {
    among(processes::POSTGRES, data_dir, others)
}

fn among(names: &[&str], data_dir: &Path, others: &[u16]) -> Vec<String> {
    let Some(system) = system_identifier(data_dir) else { return vec![] };
    let own = FolderId::of(data_dir).ok();
    processes::all()
        .filter(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| names.contains(&name.trim()))
        })
        .filter_map(|pid| {
            // Whatever became of the folder's name.
            let folder = PathBuf::from(format!("/proc/{pid}/cwd"));
            let lock = std::fs::read_to_string(folder.join("postmaster.pid")).ok()?;
            let mut lines = lock.lines();
            let is_first = lines.next()?.trim().parse() == Ok(pid);
            let port: u16 = lines.nth(PORT - 1)?.trim().parse().ok()?;
            let copy = is_first
                && FolderId::of(&folder).ok() != own
                && system_identifier(&folder) == Some(system)
                && is_in_production(&folder);
            (copy && !others.contains(&port)).then(|| {
                let named = std::fs::read_link(&folder).unwrap_or(folder);
                format!(
                    "process {pid} takes writes on a copy of this node's data in {}, port {port}; \
                     if that is not meant to be: pg_ctl -D {0} stop",
                    named.display()
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that works in a folder as a server does.
    fn server(folder: &Path, system: u64, state: i32, port: u16) -> std::process::Child {
        std::fs::create_dir_all(folder.join("global")).unwrap();
        let mut control = system.to_ne_bytes().to_vec();
        control.resize(16, 0);
        control.extend(state.to_ne_bytes());
        std::fs::write(folder.join("global/pg_control"), control).unwrap();
        let mut sleep = std::process::Command::new("sleep");
        let child = sleep.arg("60").current_dir(folder).spawn().unwrap();
        let lock = format!("{}\n{}\n0\n{port}\n\n", child.id(), folder.display());
        std::fs::write(folder.join("postmaster.pid"), lock).unwrap();
        child
    }

    #[test]
    fn only_another_server_that_writes_on_the_same_system_is_a_copy() {
        let top = tempfile::tempdir().unwrap();
        let servers = [("own", 7, 6, 1), ("copy", 7, 6, 2), ("lab", 7, 6, 3), ("standby", 7, 5, 4)];
        let mut servers: Vec<_> = servers
            .into_iter()
            .chain([("other", 8, 6, 5)])
            .map(|(name, system, state, port)| server(&top.path().join(name), system, state, port))
            .collect();
        let found = among(&["sleep"], &top.path().join("own"), &[3]);
        for server in &mut servers {
            server.kill().unwrap();
            server.wait().unwrap();
        }
        assert!(found.len() == 1 && found[0].contains("copy, port 2"), "{found:?}");
    }
}
