//! Who is attached to a server's shared memory. PostgreSQL keeps a small System V segment for this
//! very question ("is anybody of that server still there?", `sysv_shmem.c`): a backend that left the
//! data directory and outlived its postmaster is still in it.

use std::path::Path;

/// The segment of the server with that process id, as its pid file says (line 7: key and id).
pub fn segment_of(data_dir: &Path, pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    segment_in(&text, pid)
}

fn segment_in(text: &str, pid: u32) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    let its = lines.first()?.trim().parse() == Ok(pid);
    let id = lines.get(6).filter(|_| its)?.split_whitespace().nth(1)?;
    id.parse().ok()
}

/// Processes that are attached to that segment. The kernel's own count is asked first: nobody's
/// mappings are read while it is zero.
pub fn attached_to(segment: u64) -> Vec<u32> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    if !is_attached(&table, segment) {
        return vec![];
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return vec![] };
    let pids = processes.flatten().filter_map(|e| e.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid: &u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
        maps.is_ok_and(|maps| maps_it(&maps, segment))
    })
    .collect()
}

/// `proc(5)`: key, id, permissions, size, two process ids, and how many are attached.
fn is_attached(table: &str, segment: u64) -> bool {
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<u64>().ok());
        number(1) == Some(segment) && number(6).is_some_and(|count| count > 0)
    })
}

/// `proc(5)`: a segment is mapped as a file named by its key, whose inode is its id.
fn maps_it(maps: &str, segment: u64) -> bool {
    maps.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(4).and_then(|w| w.parse().ok()) == Some(segment)
            && words.get(5).is_some_and(|name| name.starts_with("/SYSV"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_in_a_servers_memory_is_of_it() {
        let file = "4711\n/data\n1700000000\n5432\n/run\nlocalhost\n  1234567    98305\nready\n";
        assert_eq!(segment_in(file, 4711), Some(98305));
        assert_eq!(segment_in(file, 4712), None, "another server's");
        assert_eq!(segment_in("4711\n/data\n", 4711), None, "it starts");
        let table = |attached: u32| {
            format!(
                "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                 1234567      98305   600                    56  4711  4720 {attached:>6}   105\n"
            )
        };
        assert!(is_attached(&table(2), 98305) && !is_attached(&table(0), 98305));
        assert!(!is_attached(&table(2), 98306));
        let maps = "7f00-7f01 rw-s 00000000 00:01 98305   /SYSV0012d687 (deleted)\n";
        assert!(maps_it(maps, 98305) && !maps_it(maps, 98306));
        assert!(!maps_it("7f00-7f01 rw-s 00000000 08:01 98305 /usr/lib/x\n", 98305));
    }
}
