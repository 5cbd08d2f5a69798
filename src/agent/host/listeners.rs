//! Who listens on this host: the processes that hold a listening TCP port or a listening Unix
//! socket, by the kernel's own tables. Nothing is connected to, so nothing that hangs can delay it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::processes::{self, command_of};

/// Something that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where, for people: `port 5432`, `socket /run/postgresql/.s.PGSQL.5432`.
    pub place: String,
    /// Who holds it; `None` when this process may not look.
    pub pid: Option<u32>,
}

impl Listener {
    /// It is a PostgreSQL by its command, or nobody can tell.
    pub fn may_be_postgres(&self) -> bool {
        self.pid.is_none_or(processes::is_postgres)
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} ({}) answers on {}", command_of(pid), self.place),
            None => write!(f, "a process of another user answers on {}", self.place),
        }
    }
}

/// Everything that listens on this TCP port, at whatever address, or on this Unix socket.
pub fn at(port: u16, socket: &Path) -> Vec<Listener> {
    let mut sockets: Vec<(u64, String)> = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        sockets.extend(tcp(table, port).into_iter().map(|inode| (inode, format!("port {port}"))));
    }
    let unix = unix(socket);
    sockets.extend(unix.into_iter().map(|inode| (inode, format!("socket {}", socket.display()))));
    let mut found = Vec::new();
    for (inode, place) in sockets {
        let holders = holders(inode);
        if holders.is_empty() {
            found.push(Listener { place: place.clone(), pid: None });
        }
        let of = |pid| Listener { place: place.clone(), pid: Some(pid) };
        found.extend(holders.into_iter().map(of));
    }
    found
}

fn lines(table: &str) -> impl Iterator<Item = String> {
    let file = std::fs::File::open(table).into_iter();
    file.flat_map(|file| BufReader::new(file).lines().map_while(Result::ok)).skip(1)
}

/// Inodes of the listening sockets of this port. They come first in the table; the rest, which may
/// be long, is not read.
fn tcp(table: &str, port: u16) -> Vec<u64> {
    const LISTENS: &str = "0A";
    let suffix = format!(":{port:04X}");
    lines(table)
        .map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .take_while(|fields| fields.get(3).is_some_and(|state| state == LISTENS))
        .filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&suffix)))
        .filter_map(|fields| fields.get(9)?.parse().ok())
        .collect()
}

/// Inodes of the listening sockets with this name.
fn unix(socket: &Path) -> Vec<u64> {
    const LISTENS: &str = "00010000";
    let name = socket.display().to_string();
    lines("/proc/net/unix")
        .filter(|line| line.ends_with(&name))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let is = fields.get(3) == Some(&LISTENS) && fields.get(7) == Some(&name.as_str());
            is.then(|| fields.get(6)?.parse().ok()).flatten()
        })
        .collect()
}

/// Who has the socket open, as far as this process may look.
fn holders(inode: u64) -> Vec<u32> {
    let link = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&link)))
    };
    processes::all().filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join(".s.PGSQL.1");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let here = Some(std::process::id());
        let of_port = Listener { place: format!("port {port}"), pid: here };
        assert_eq!(at(port, &socket), std::slice::from_ref(&of_port));
        let unix = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let of_socket = Listener { place: format!("socket {}", socket.display()), pid: here };
        assert_eq!(at(port, &socket), [of_port, of_socket.clone()]);
        drop(tcp);
        assert_eq!(at(port, &socket), [of_socket]);
        drop(unix);
        assert_eq!(at(port, &socket), []);
    }
}
