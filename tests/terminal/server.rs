//! Servers that are not what they should be, on a port of this machine.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An address where nobody listens.
pub fn absent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// It takes every connection, reads what comes, and never says a word.
pub fn half_open() -> String {
    served(|mut stream| while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {})
}

/// It speaks, and it is not TLS.
pub fn babbling() -> String {
    served(|mut stream| {
        let _ = stream.write_all(&[b'x'; 4096]);
    })
}

fn served(how: impl Fn(TcpStream) + Copy + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || how(stream));
        }
    });
    address
}

/// The way to a real server, which can be made bad.
pub struct Way {
    pub address: String,
    /// Bytes from the server until a connection is cut; nothing is cut at the largest number.
    cut_after: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Way {
    pub fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut_after = Arc::new(AtomicU64::new(u64::MAX));
        let connections = Arc::new(AtomicU64::new(0));
        let (limit, count) = (Arc::clone(&cut_after), Arc::clone(&connections));
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(to) = TcpStream::connect(&server) else { continue };
                let (up, down) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || carry(up, to, None));
                let limit = Arc::clone(&limit);
                std::thread::spawn(move || carry(down, from, Some(limit)));
            }
        });
        Self { address, cut_after, connections }
    }
    /// From now on every connection is cut after so many bytes of the server.
    pub fn cut_after(&self, bytes: u64) {
        self.cut_after.store(bytes, Ordering::SeqCst);
    }
    /// How often somebody came.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, limit: Option<Arc<AtomicU64>>) {
    let mut buffer = [0; 1024];
    let mut carried = 0;
    while let Ok(read) = from.read(&mut buffer) {
        carried += read as u64;
        let cut = limit.as_ref().is_some_and(|l| carried > l.load(Ordering::SeqCst));
        if read == 0 || cut || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
